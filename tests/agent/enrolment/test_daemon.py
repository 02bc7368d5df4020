"""The daemon from first boot without a certificate to a renewal, against a platform over TLS."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from agent.enrolment.site import Site
from dongled.agent.daemon import Daemon
from dongled.agent.enrolment.schedule import jitter_of
from dongled.config.api import Settings, load
from support.authority import der
from support.est import Asked, Platform, Reply


def early_bird() -> str:
    """A terminal that is among the first of its fleet, so that nobody waits for it here."""
    return next(
        urn for urn in (uuid.UUID(int=number).urn for number in range(1, 10**6)) if jitter_of(urn) < 1e-3
    )


def settings(site: Site) -> Settings:
    site.change('label = "terminals"', f'terminal = "{early_bird()}"')
    path: Path = site.folder / "dongled.toml"
    # Nobody listens there: what counts is that it tries.
    path.write_text(
        path.read_text()
        + '[control]\nsocket = "control.sock"\n[[meeting]]\nname = "m"\nroom = 1\n'
        + '[meeting.sfu]\nurl = "ws://127.0.0.1:9"\n'
    )
    return load(path, {}, {})


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - a daemon has to be asked: there is nothing to wait on
            await asyncio.sleep(0.05)


def test_first_boot_and_a_renewal(site: Site, served: Platform) -> None:
    here, gate = settings(site), [True]

    def closed(asked: Asked) -> Reply | None:
        waits = gate[0] and asked.operation == "simpleenroll"
        return Reply(status=202, headers={"Retry-After": "3600"}) if waits else None

    def old_then_new(asked: Asked) -> x509.Certificate:
        # 83 % of its life is gone, so that the renewal is due.
        back = timedelta(days=25) if asked.operation == "simpleenroll" else timedelta(0)
        return served.issue(asked, now=datetime.now(UTC) - back)

    served.fault, served.certify = closed, old_then_new

    async def work() -> None:
        daemon = Daemon(here, None)
        task = asyncio.create_task(daemon.run())
        try:
            # Not approved yet: it runs, and is in no meeting.
            await until(lambda: "simpleenroll" in served.operations or task.done())
            assert daemon.status().terminal == ""
            assert daemon.status().meetings[0].session == ""
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        gate[0] = False
        daemon = Daemon(here, None)
        task = asyncio.create_task(daemon.run())
        try:
            await until(lambda: any(each.why for each in daemon.status().meetings) or task.done())
            assert daemon.status().terminal == early_bird()
            await until(lambda: served.operations.count("simplereenroll") == 2 or task.done())
            await until(lambda: _announces(daemon) == _newest(served) or task.done())
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(work())
    assert (site.on_token("identity"), site.on_token("data")) == _newest(served)


def _announces(daemon: Daemon) -> tuple[bytes, bytes] | None:
    terminal = daemon._custody.terminal if daemon._custody else None
    return (terminal.identity_chain[0], terminal.data_chain[0]) if terminal else None


def _newest(served: Platform) -> tuple[bytes, bytes]:
    issued = {kind: der(certificate) for (_, kind), certificate in served.issued.items()}
    return issued["identity"], issued["data"]
