"""The daemon: one terminal, its token, its meetings and its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from dongled.agent import locked, report, wiring
from dongled.agent.audit import trail
from dongled.agent.clock import boottime
from dongled.agent.control.caller import caller
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from dongled.agent.custody import Custody
from dongled.agent.enrolment.renewal import Renewal, seconds_to_retire
from dongled.agent.errors import AgentError
from dongled.agent.health import facts
from dongled.agent.health.disks import directories
from dongled.agent.health.monitor import HealthMonitor
from dongled.agent.logs.events import Event, about
from dongled.agent.meetings.encrypted import EncryptedSession
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.meeting import Meeting, Session
from dongled.agent.meetings.meetings import Meetings
from dongled.agent.meetings.plain import PlainSession
from dongled.agent.meetings.private import Showable
from dongled.agent.meetings.streams import Sinks, Streams
from dongled.agent.metrics.server import MetricsServer
from dongled.agent.notify import Notifier
from dongled.agent.policy.authorizer.operator import Operator
from dongled.agent.policy.clock import TimeSource, told_time
from dongled.agent.policy.trust import Trust
from dongled.agent.protocol.api import Effect, Peer, Stream
from dongled.agent.protocol.bans import Bans
from dongled.agent.reload import Basis
from dongled.agent.reload import plan as make_plan
from dongled.agent.sfu.api import SfuError
from dongled.agent.status import DaemonStatus, ReloadStatus, RequestStatus
from dongled.agent.tasks import OwnedTasks, keep_going
from dongled.agent.terminal import IdentityClaim, Terminal
from dongled.agent.vitality import Vitality
from dongled.config.api import ConfigError, MeetingSettings, Settings, settings_warnings
from dongled.media.errors import MediaError
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger_file import FileLedger
from dongled.tokens.opened import OpenedToken

log = logging.getLogger("dongled")


@dataclass(frozen=True, slots=True)
class Viewing:
    """What ``dongled view`` does differently: it publishes nothing and brings its own sinks.

    ``wants`` is asked with terminal and stream, of those that the settings subscribe to. ``socket`` None:
    nobody can ask it for its status.
    """

    sinks: Callable[[str, str], Sinks]
    wants: Callable[[str, str], bool]
    socket: Path | None


def _background_failed(error: BaseException) -> None:
    log.error("%s", error, exc_info=error)


def _reload_failed(error: BaseException) -> None:
    # That the configuration is refused has been told; anything else is a defect.
    if not isinstance(error, AgentError):
        log.error("the configuration was not read again: %s", error, exc_info=error)


class Daemon:
    """``viewing`` None: publish, subscribe and sink as the settings say."""

    def __init__(
        self,
        settings: Settings,
        instance: str | None,
        viewing: Viewing | None = None,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        """``load`` reads the settings again. Raises ConfigError. None: they are never read again."""
        self._settings = settings
        self._load = load
        self._bases: dict[Meeting, Basis] = {}
        self._running: dict[Meeting, asyncio.Task[None]] = {}
        self._bans: dict[str, Bans] = {}
        self._group = asyncio.TaskGroup()
        self._notifier = Notifier()
        self._up = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads = OwnedTasks(_reload_failed)
        self._reload_refused = ""
        self._restart: tuple[str, ...] = ()
        self._instance = instance or ""
        self._viewing = viewing
        self._custody: Custody | None = None
        self._places: wiring.Places = {}
        self._trust: Trust | None = None
        self._renewal: Renewal | None = None
        self._renewing = OwnedTasks(_background_failed)
        self._meetings = Meetings([])
        self._player_left = asyncio.Event()
        self._started = boottime()
        self._health = HealthMonitor(
            self._facts, lambda: settings_warnings(self._settings), lambda: directories(self._settings)
        )

    async def run(self) -> None:
        """Until cancelled, or until a viewer's player was closed.

        Raises TokenError, ConfigError or AgentError for what cannot be started.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(log.info, "stopped", extra=about(Event.STOPPED))
            custody = None
            if self._settings.token is not None:
                custody = self._custody = await self._open_custody(stack)
            self._meetings.replace([self._meeting(basis) for basis in self._wanted_bases(self._settings)])
            stack.push_async_callback(self._reloads.cancel)
            await self._serve_control(stack)
            await self._serve_metrics(stack)
            self._notifier.tell(READY="1")
            for warning in settings_warnings(self._settings):
                fields = about(Event.WARNING_BEGAN, warning=warning.id)
                log.warning("%s [%s]; %s", warning.text, warning.id, warning.hint, extra=fields)
            log.info("ready: dongled %s", version("dongled"), extra=about(Event.READY))
            async with self._group as group:
                running = [group.create_task(Vitality(self._notifier, self._meetings).run())]
                running.append(group.create_task(keep_going("looking after health", self._health.run)))
                if custody is not None:
                    running.append(group.create_task(custody.run()))
                self._start_meetings()
                self._up.set()
                await self._player_left.wait()
                for task in [*running, *self._running.values()]:
                    task.cancel()

    async def _open_custody(self, stack: contextlib.AsyncExitStack) -> Custody:
        trust = self._trust = wiring.open_trust(self._settings, record=self._viewing is None)
        trust.on_learned(lambda: self._meetings.judge_again())
        if trust.audit is not None:
            trust.audit.record("started", name=self._settings.terminal.name, version=version("dongled"))
            trust.audit.start()
            if isinstance(trust.authorizer, Operator):
                trust.authorizer.on_said(partial(trail.decided, trust.audit))
        background = OwnedTasks(_background_failed)
        background.spawn(trust.run())
        stack.push_async_callback(background.cancel)
        if trust.audit is not None:
            stack.callback(trust.audit.record, "stopped")
        stack.push_async_callback(self._renewing.cancel)
        ledger, where = FileLedger(self._settings.state.directory), wiring.places(self._settings)
        self._places = where
        stack.callback(locked.stop_waiting, where)
        opened: list[IdentityClaim] = []

        def make_terminal(keys: OpenedToken) -> Terminal:
            if not opened:
                opened.append(IdentityClaim(keys.identity.point))
                stack.callback(opened[0].release)
            # At each opening until it has succeeded: what is missing now may be there then.
            if self._renewal is None:
                enroller = wiring.open_enroller(self._settings, keys, where, ledger, trust.clock)
                if enroller is not None:
                    self._renewal = Renewal(enroller, trust.clock, self._renewed)
                    self._renewing.spawn(keep_going("renewing certificates", self._renewal.run))
            return wiring.open_terminal(self._settings, keys, trust.policy)

        awaited = {"no-certificate"} if self._settings.enrolment is not None else ()
        custody = Custody(wiring.key_opener(self._settings, ledger, where), make_terminal, awaited=awaited)
        stack.push_async_callback(custody.close)
        token = self._settings.token
        if token is not None and token.pin_fido is not None:
            # Nobody can tell how long that takes, and the control socket is to say what is waited for.
            custody.hold(TokenError("fido-wanted", "a FIDO2 key has to be touched", "insert and touch it"))
        else:
            await custody.start()
        return custody

    def _renewed(self) -> None:
        """New sessions announce the new certificates; those that run go on while the old ones last."""
        custody = self._custody
        if custody is None or custody.terminal is None:
            return
        before = custody.terminal
        custody.read_again()
        self._renewing.spawn(self._retire(before, custody))

    async def _retire(self, before: Terminal, custody: Custody) -> None:
        """End the sessions that announced old certificates, in time to come back with the new ones."""
        # Without a certificate of its own the data key counts as software: not for longer than needed.
        if before.data_chain:
            await asyncio.sleep(seconds_to_retire([before.identity_chain[0], before.data_chain[0]]))
        for _, session in self._meetings.encrypted():
            if session.terminal is not custody.terminal:
                session.end("the certificate was renewed")

    def expel(self, name: str, reason: str) -> list[str]:
        """Have every meeting that this peer is in expel it; says from where, and whom. Raises AgentError."""
        expelled = self._meetings.expel(name, reason)
        if self._trust is not None and self._trust.audit is not None:
            self._trust.audit.record("ordered-out", by=caller(), who=expelled, why=reason)
        return expelled

    def private(self, what: str, name: str, meeting: str, streams: list[str]) -> str:
        """Begin or end a private session; says with whom. Raises AgentError."""
        return self._meetings.private(what, name, meeting, streams)

    def requests(self) -> list[RequestStatus]:
        """Who waits for the operator's word, and what it was. Raises AgentError."""
        return report.requests_status(self._operator())

    def approve(self, name: str, seconds: int | None) -> list[RequestStatus]:
        """Let a request pass; what was approved. Raises AgentError."""
        operator = self._operator()
        return report.requests_status(operator, operator.approve(name, seconds, caller()))

    def deny(self, name: str, seconds: int | None) -> list[RequestStatus]:
        """Refuse a request; what was refused. Raises AgentError."""
        operator = self._operator()
        return report.requests_status(operator, operator.deny(name, seconds, caller()))

    def confirm_time(self, text: str) -> str:
        """Take somebody's word that it is this time; what is believed now. Raises AgentError."""
        if self._trust is None or self._trust.clock.source is not TimeSource.OPERATOR:
            raise AgentError(
                "time-not-asked", "Nobody is asked for the time here.", 'Set trust.time-source = "operator".'
            )
        clock = self._trust.clock
        clock.confirm(told_time(text))
        now = clock.now().isoformat(timespec="seconds")
        log.info("%s vouches for the time: %s", caller(), now)
        if self._trust.audit is not None:
            self._trust.audit.record("time-confirmed", by=caller(), said=text)
        self._meetings.judge_again()
        return now

    def _operator(self) -> Operator:
        if self._trust is None or not isinstance(self._trust.authorizer, Operator):
            raise AgentError(
                "no-operator", "Nobody waits for the operator here.", 'Set authorizer.kind = "operator".'
            )
        return self._trust.authorizer

    async def unlock(self, pin: str, to_key: bool) -> str:
        """Try an operator's PIN, of the token or of the FIDO2 key; the state. Raises AgentError."""
        return await locked.unlock(self._custody, self._places, pin, to_key=to_key)

    async def _serve_control(self, stack: contextlib.AsyncExitStack) -> None:
        control = self._settings.control
        socket = self._viewing.socket if self._viewing else control.socket
        if socket is None:
            return
        server = ControlServer(socket, ControlInterface(self), control.group, control.operators)
        await server.start()
        stack.push_async_callback(server.close)

    async def _serve_metrics(self, stack: contextlib.AsyncExitStack) -> None:
        listen = self._settings.metrics.listen
        if listen is None or self._viewing is not None:
            return
        from prometheus_client import generate_latest

        from dongled.agent.metrics.figures import registry_of

        registry = registry_of(self.status)
        server = MetricsServer(listen, lambda: generate_latest(registry), self._settings.control.group)
        await server.start()
        stack.push_async_callback(server.close)

    def _wanted_bases(self, settings: Settings) -> list[Basis]:
        return [wiring.meeting_basis(settings, meeting) for meeting in settings.meeting]

    def _start_meetings(self) -> None:
        for meeting in self._meetings:
            if meeting not in self._running:
                self._running[meeting] = self._group.create_task(meeting.run())

    def hangup(self) -> None:
        """SIGHUP: ``reload``, and what comes of it is in the log."""
        self._reloads.spawn(self._reload_alone())

    async def reload(self) -> ReloadStatus:
        """Take what the configuration says now. Raises AgentError, and then nothing has changed."""
        # Whoever asked for it may go; it is not left half done.
        return await asyncio.shield(self._reloads.spawn(self._reload_alone()))

    async def _reload_alone(self) -> ReloadStatus:
        # Before that there is nothing to change, and READY is not to be told.
        await self._up.wait()
        async with self._reloading:
            self._notifier.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
            try:
                done = await self._take_new_settings()
            except (AgentError, ConfigError, SfuError, OSError) as error:
                problems = error.problems if isinstance(error, ConfigError) else ()
                reason = "config-unreadable" if isinstance(error, OSError) else error.reason
                self._reload_refused = "; ".join(map(str, problems)) or str(error)
                fields = about(Event.RELOAD_REFUSED, reason=reason)
                log.error("the configuration stays as it was: %s [%s]", error, reason, extra=fields)
                raise AgentError(reason, str(error), getattr(error, "hint", "")) from None
            finally:
                self._notifier.tell(READY="1")
            self._reload_refused, self._restart = "", tuple(done.restart)
            for title, names in asdict(done).items():
                if names:
                    text, fields = ", ".join(names), about(Event.RELOADED)
                    log.info("configuration read again: %s: %s", title, text, extra=fields)
            return done

    async def _take_new_settings(self) -> ReloadStatus:
        if self._load is None:
            raise AgentError(
                "no-reload", "This terminal's settings are its command line's.", "Start it again."
            )
        plan = make_plan(self._settings, await asyncio.to_thread(self._load))
        bases = self._wanted_bases(plan.settings)
        if self._custody is None and any(basis.meeting.encryption != "plain" for basis in bases):
            raise AgentError(
                "restart-needed",
                "An encrypted meeting needs the token.",
                "Restart the daemon.",
            )
        if self._trust is not None:
            wiring.change_trust(self._trust, plan.settings)
        # From here on nothing fails.
        self._settings = plan.settings
        before = {self._bases[meeting].meeting.name: meeting for meeting in self._meetings}
        kept = {name: each for name, each in before.items() if self._bases[each] in bases}
        for meeting in before.values():
            if meeting not in kept.values():
                await self._stop_meeting(meeting)
        self._meetings.replace(
            [
                kept.get(basis.meeting.name) or self._meeting(basis, before.get(basis.meeting.name))
                for basis in bases
            ]
        )
        self._start_meetings()
        self._meetings.judge_again()
        names = [basis.meeting.name for basis in bases]
        return ReloadStatus(
            kept=list(kept),
            begun=[name for name in names if name not in kept],
            ended=[name for name in before if name not in names],
            restart=list(plan.restart),
        )

    async def _stop_meeting(self, meeting: Meeting) -> None:
        task = self._running.pop(meeting)
        task.cancel()
        await asyncio.wait([task])
        del self._bases[meeting]

    def _meeting(self, basis: Basis, before: Meeting | None = None) -> Meeting:
        """``before``: the meeting of this name so far, whose counts go on."""
        meeting, room, ice = basis.meeting, basis.room, basis.ice
        journal = before.journal if before is not None else Journal(meeting.name)
        mine = [] if self._viewing else wiring.outbound_settings(basis.streams)
        showable = Showable() if self._viewing else wiring.showable(basis.private)
        sinks = self._viewing.sinks if self._viewing else wiring.sink_maker(meeting.sink)

        # By name: a meeting that was configured anew is still the one that they were expelled from.
        bans = self._bans.setdefault(meeting.name, Bans())

        def open_session() -> Session:
            streams = Streams(ice, sinks, self._sink_failed)
            if meeting.encryption == "plain":
                name = self._settings.terminal.name
                everybody = meeting.subscribe == "all"
                return PlainSession(
                    meeting.name, room, ice, name, mine, streams, lambda _: everybody, journal
                )
            assert self._custody is not None
            terminal, want = self._custody.terminal, self._wanted(meeting)
            assert terminal is not None
            return EncryptedSession(
                meeting.name,
                room,
                ice,
                terminal,
                mine,
                streams,
                want,
                journal,
                self._stay(made),
                bans,
                self._noting(meeting.name),
                showable,
            )

        ready = self._custody.ready if self._custody and meeting.encryption != "plain" else None
        made = Meeting(meeting, open_session, journal, ready)
        self._bases[made] = basis
        return made

    def _noting(self, meeting: str) -> Callable[[Effect], None]:
        audit = self._trust.audit if self._trust else None
        return (lambda effect: None) if audit is None else partial(trail.note, audit, meeting)

    def _stay(self, meeting: Meeting) -> Callable[[], Awaitable[None]] | None:
        """What a session of this meeting does once the token is lost; None: leave at once."""
        token, custody = self._settings.token, self._custody
        if token is None or custody is None or (token.on_removal == "leave" and not token.grace):
            return None
        seconds = None if token.on_removal == "mute" else token.grace

        async def until_it_is_back() -> None:
            meeting.muted(f"token: {custody.why}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await custody.ready()

        return until_it_is_back

    def _sink_failed(self, error: MediaError) -> None:
        if self._viewing is not None and error.reason == "output-closed":
            self._player_left.set()

    def _wanted(self, meeting: MeetingSettings) -> Callable[[Peer, Stream], bool]:
        subscribed = wiring.wanted(meeting)
        if self._viewing is None:
            return subscribed
        asked = self._viewing.wants
        return lambda peer, stream: subscribed(peer, stream) and asked(peer.terminal, stream.id)

    def status(self) -> DaemonStatus:
        return replace(self._facts(), warnings=self._health.warnings())

    def _facts(self) -> DaemonStatus:
        audit = self._trust.audit if self._trust else None
        return DaemonStatus(
            version=version("dongled"),
            pid=os.getpid(),
            instance=self._instance,
            terminal=self._custody.urn if self._custody else "",
            name=self._settings.terminal.name,
            uptime=boottime() - self._started,
            token=report.token_status(self._custody),
            meetings=[report.meeting_status(meeting) for meeting in self._meetings],
            certificates=facts.certificate_status(
                self._custody.terminal if self._custody else None, self._renewal
            ),
            time=facts.time_status(self._trust),
            revocation=facts.revocation_status(self._trust, self._settings.trust.revocation),
            disks=self._health.disks,
            audit_failed=str(audit.why) if audit is not None and audit.why is not None else "",
            touch_wanted=self._custody.terminal.touch_wanted()
            if self._custody and self._custody.terminal
            else [],
            reload_refused=self._reload_refused,
            restart=list(self._restart),
        )
