"""From settings to the objects that the daemon runs: the only place that knows both."""

from __future__ import annotations

import getpass
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache, partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dongled.agent.audit.log import AuditLog
from dongled.agent.enrolment.client import EstServer
from dongled.agent.enrolment.enroller import Enroller, Request, TokenAccess
from dongled.agent.enrolment.kept import KeptChains
from dongled.agent.errors import AgentError
from dongled.agent.meetings.private import Showable
from dongled.agent.meetings.streams import OutboundSettings, Sinks
from dongled.agent.policy.api import EvidenceCheck, PolicyRefused
from dongled.agent.policy.attestation import Attestation, attestations
from dongled.agent.policy.authorizer.api import Authorizer
from dongled.agent.policy.authorizer.exchange import Address, Exchange
from dongled.agent.policy.authorizer.operator import Operator
from dongled.agent.policy.authorizer.program import Program
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TimeSource, TrustedClock
from dongled.agent.policy.evidence import gatherer
from dongled.agent.policy.fetch import FetchSettings, RevocationFetcher
from dongled.agent.policy.floor import FloorFile
from dongled.agent.policy.hardware_clock import confirm_by_hardware
from dongled.agent.policy.network_time import NetworkTime
from dongled.agent.policy.presence import Presence, by_credential
from dongled.agent.policy.profile import MALFORMED
from dongled.agent.policy.revocation import Mode, Revocations
from dongled.agent.policy.stapled import staples
from dongled.agent.policy.touches import Touches
from dongled.agent.policy.trust import Trust
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.protocol.api import Peer, Stream
from dongled.agent.reload import Basis
from dongled.agent.sfu.janus.room import JanusSettings
from dongled.agent.terminal import Terminal, own_name
from dongled.capture.factory import open_source
from dongled.config.api import (
    AuthorizerSettings,
    ConfigError,
    Credential,
    KeyPin,
    MeetingSettings,
    SecretSource,
    Settings,
    SinkSettings,
    StreamSettings,
    TokenPlace,
    read_secret,
)
from dongled.media.api import EncodedSink, PictureSink
from dongled.media.sinks import MkvSink, NullSink, PngSink
from dongled.media.sinks.lasting import LastingPictures, LastingRecording, free_name
from dongled.media.webrtc import IceSettings, TurnServer
from dongled.tokens import api as tokens
from dongled.tokens.api import KeyInfo, KeyPins, KeyRole, TokenKeys
from dongled.tokens.errors import TokenError
from dongled.tokens.fido.registered import Registration, parse
from dongled.tokens.fido.source import FidoPin
from dongled.tokens.fido.vault import Vault
from dongled.tokens.ledger import PinLedger
from dongled.tokens.opened import OpenedToken, Place, open_token
from dongled.tokens.pin import NoPin, PinCredential, PinFile, PinPrompt, PinSource
from dongled.tokens.unlocking import NobodyYet, Unlocking
from dongled.tokens.uri import parse_token

log = logging.getLogger(__name__)


def _secret(source: SecretSource | None) -> str | None:
    return None if source is None else read_secret(source)


def pin_source(token: TokenPlace, what: str = "token") -> PinSource:
    match token.pin:
        case Path() as path:
            return PinFile(path)
        case Credential(name):
            return PinCredential(name)
        case None if token.pin_none:
            return NoPin()
        case None if token.pin_fido is not None:
            return FidoPin(Vault(token.pin_fido), serial_of(token), _ask_for_touch)
        case None if sys.stdin is not None and sys.stdin.isatty():
            return PinPrompt(partial(getpass.getpass, f"PIN of the {what}: "))
        case None:
            return NobodyYet()


def serial_of(token: TokenPlace) -> str:
    """The settings insist on one."""
    return parse_token(token.uri).path["serial"]


def _ask_for_touch() -> None:
    log.warning("touch the FIDO2 key to unlock the token")


def unlocking(token: TokenPlace, what: str) -> PinSource:
    """As the settings say, or as an operator hands it over."""
    return NoPin() if token.pin_none else Unlocking(cache(partial(pin_source, token, what)))


Places = Mapping[KeyRole, Callable[[], Place]]
"""Where each key's token is; made at the first call, since that can fail, then kept."""


def places(settings: Settings) -> Places:
    """Of both keys the same, unless they are on two tokens. Somebody who is asked for a PIN is asked once."""
    assert settings.token is not None

    def of(token: TokenPlace, what: str) -> Callable[[], Place]:
        return cache(lambda: Place(str(token.module), token.uri, unlocking(token, what)))

    identity = of(settings.token, "token")
    data = identity if settings.data_token is None else of(settings.data_token, "data key's token")
    return {KeyRole.IDENTITY: identity, KeyRole.DATA: data}


def key_opener(settings: Settings, ledger: PinLedger, where: Places) -> Callable[[], Awaitable[OpenedToken]]:
    """Opens the keys, unlocked and checked against their pins, as often as called. Raises TokenError."""
    token = settings.token
    assert token is not None
    pins = KeyPins(identity=key_pin(token.identity), data=key_pin(token.data))

    async def open_keys() -> OpenedToken:
        first = where[KeyRole.IDENTITY]()
        second = where[KeyRole.DATA]() if settings.data_token is not None else None
        return await open_token(first.module, first.uri, first.pin, pins, data=second, ledger=ledger)

    return open_keys


def key_pin(pin: KeyPin) -> tokens.KeyPin:
    return tokens.KeyPin(pin.cka_id, pin.digest)


def open_clock(settings: Settings) -> TrustedClock:
    """Where the time daemon vouches for it, it has to be asked yet."""
    clock = TrustedClock(settings.trust.time_source, floor=FloorFile(settings.state.directory).load())
    if clock.source is TimeSource.RTC:
        confirm_by_hardware(clock)
    return clock


async def asked_clock(settings: Settings) -> TrustedClock:
    """For what does not run long enough to ask again."""
    clock = open_clock(settings)
    if clock.source is TimeSource.NTS:
        await NetworkTime(clock).look()
    return clock


def open_trust(settings: Settings, *, record: bool = False) -> Trust:
    """``record``: write the audit log, as the settings say."""
    trust = settings.trust
    floor, clock = FloorFile(settings.state.directory), open_clock(settings)
    mode, max_age = Mode(trust.revocation), timedelta(seconds=trust.revocation_max_age)
    revocations = Revocations(mode, grace=timedelta(seconds=trust.revocation_grace))
    authorizer = open_authorizer(settings.authorizer)
    audit = open_audit(settings, clock) if record and settings.audit.enabled else None
    presence = _presence(settings)
    policy = CertificatePolicy(
        read_files(trust.roots),
        clock,
        allow_viewers=trust.allow_viewers,
        allow_publishers=trust.allow_publishers,
        minimum_assurance=trust.minimum_assurance,
        revocations=revocations,
        max_age=max_age,
        authorizer=authorizer,
        recorded=audit.require if audit else lambda: None,
        evidence=[*_attestation(settings, clock), *([] if presence is None else [presence])],
    )
    places: list[Path | str] = [*trust.revocation_crls, *trust.revocation_crl_urls]
    fetch = FetchSettings(max_age, trust.revocation_refresh, trust.revocation_responder, places)
    fetcher = None if mode is Mode.OFF else RevocationFetcher(revocations, fetch, clock)
    network_time = NetworkTime(clock) if clock.source is TimeSource.NTS else None
    return Trust(policy, clock, floor, fetcher, authorizer, audit, network_time, presence)


def open_audit(settings: Settings, clock: TrustedClock) -> AuditLog:
    audit = settings.audit

    def trusted() -> bool:
        try:
            clock.now()
        except PolicyRefused:
            return False
        return True

    return AuditLog(
        audit.directory or settings.state.directory,
        most=audit.max_size,
        keep=audit.max_files,
        required=audit.required,
        trusted=trusted,
    )


def open_authorizer(authorizer: AuthorizerSettings) -> Authorizer | None:
    """None where a list decides. Raises AgentError for files that cannot be used."""
    match authorizer.kind:
        case "operator":
            return Operator(authorizer.approval)
        case "program":
            pair = (authorizer.tls_certificate, authorizer.tls_key)
            bearer = authorizer.bearer
            address = Address(
                authorizer.url or "http://authorizer/",
                authorities=authorizer.ca_file,
                socket=authorizer.socket,
                client=None if pair[0] is None or pair[1] is None else (pair[0], pair[1]),
                bearer=None if bearer is None else partial(read_secret, bearer),
            )
            exchange = Exchange(address, authorizer.timeout)
            return Program(exchange, remember=authorizer.remember, refresh=authorizer.refresh)
    return None


def change_trust(trust: Trust, settings: Settings) -> None:
    """Have a running daemon judge by these settings, and by what their files say now of whose touch counts.

    Raises AgentError and ConfigError, and then nothing has changed.
    """
    people = registered(settings.presence.credentials) if trust.presence is not None else []
    by_credential(people)
    trust.policy.change(
        read_files(settings.trust.roots),
        settings.trust.allow_viewers,
        settings.trust.allow_publishers,
        settings.trust.minimum_assurance,
    )
    if trust.presence is not None:
        trust.presence.change(people)


def meeting_basis(settings: Settings, meeting: MeetingSettings) -> Basis:
    """Reads the meeting's secrets. Raises ConfigError and SfuError."""
    streams = tuple(settings.stream_by_id(stream) for stream in meeting.publish)
    private = tuple(settings.stream_by_id(stream) for stream in meeting.private)
    return Basis(meeting, streams, private, janus_settings(meeting), ice_settings(settings))


def _attestation(settings: Settings, clock: TrustedClock) -> list[EvidenceCheck]:
    trust = settings.trust
    if not trust.attestation_roots:
        return []
    return [Attestation(read_files(trust.attestation_roots), clock, required=trust.require_attestation)]


def _presence(settings: Settings) -> Presence | None:
    presence = settings.presence
    if not presence.require_for:
        return None
    people, required = registered(presence.credentials), presence.require_for
    return Presence(people, required, verified=presence.verify, lasts=presence.lasts)


def registered(files: Sequence[Path]) -> list[Registration]:
    """Everybody whose touch counts, by these files. Raises ConfigError and AgentError."""
    try:
        return [
            each
            for path, data in zip(files, read_files(files), strict=True)
            for each in parse(data, str(path))
        ]
    except TokenError as error:
        raise AgentError(error.reason, str(error), error.hint) from None


def open_touches(settings: Settings, urn: str) -> Touches | None:
    """None where nobody is asked for a touch. Raises ConfigError and AgentError."""
    presence = settings.presence
    if not presence.show_to:
        return None
    own = [each for each in registered(presence.credentials) if each.terminal == urn]
    if not own:
        raise AgentError(
            "presence-nobody",
            f"No FIDO2 key is registered for {urn}, and one is to be shown to others.",
            "`dongled presence register` does that; or leave presence.show-to empty.",
        )
    return Touches(own, presence.show_to, presence.verify)


def open_enroller(
    settings: Settings, keys: TokenKeys, where: Places, ledger: PinLedger, clock: TrustedClock
) -> Enroller | None:
    """What gets this terminal's certificates; None where it is not configured. Raises AgentError."""
    enrolment = settings.enrolment
    if enrolment is None:
        return None
    password = enrolment.password
    server = EstServer(
        enrolment.url,
        enrolment.ca_file,
        enrolment.username,
        None if password is None else partial(read_secret, password),
        (enrolment.tls_certificate, enrolment.tls_key)
        if enrolment.tls_certificate is not None and enrolment.tls_key is not None
        else None,
    )
    apart = enrolment.officer_file if settings.data_token is None else enrolment.data_officer_file
    files = {KeyRole.IDENTITY: enrolment.officer_file, KeyRole.DATA: apart}
    officers = {role: PinFile(file) for role, file in files.items() if file is not None}
    access = {role: TokenAccess(place(), ledger, officers.get(role)) for role, place in where.items()}
    labels = {KeyRole.IDENTITY: enrolment.label, KeyRole.DATA: enrolment.data_label or enrolment.label}
    return Enroller(
        keys,
        access,
        server,
        Request(_subject(settings), enrolment.terminal, labels),
        CertificateVerifier(read_files(settings.trust.roots), clock),
        clock,
        KeptChains(settings.state.directory),
    )


def _subject(settings: Settings) -> x509.Name:
    assert settings.enrolment is not None
    text = settings.enrolment.subject
    if text is None:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, settings.terminal.name)])
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError:
        raise AgentError(
            "subject", f"enrolment.subject {text!r} is no distinguished name", 'such as "CN=door,O=Example"'
        ) from None


def open_terminal(settings: Settings, keys: TokenKeys, policy: CertificatePolicy) -> Terminal:
    """Raises AgentError where a certificate is missing or does not name a terminal."""
    token, kept = settings.token, KeptChains(settings.state.directory)
    assert token is not None
    identity = chain_in_use(token.identity, keys.identity, kept)
    if not identity:
        raise AgentError(
            "no-certificate",
            "The identity key has no certificate.",
            "Have one issued ('dongled enroll', or 'dongled token csr' and 'dongled token import-cert'), "
            "or name its file in [token.identity] certificate.",
        )
    data = chain_in_use(token.data, keys.data, kept)
    urn = own_name(identity[0])
    sources = [staples(policy, [identity, data]), attestations(keys.attestation)]
    touches = open_touches(settings, urn)
    if touches is None:
        return Terminal(urn, keys, identity, data, policy, gatherer(sources))
    evidence = gatherer([*sources, touches.gather])
    return Terminal(urn, keys, identity, data, policy, evidence, touches.wanted)


def chain_in_use(pin: KeyPin, key: KeyInfo, kept: KeptChains) -> Sequence[bytes]:
    """A key's certificate and what leads from it, DER; empty where there is none. Raises AgentError."""
    return kept.in_use(key) if pin.certificate is None else read_chain(pin.certificate)


def read_files(paths: Iterable[Path]) -> list[bytes]:
    """Files that the settings name, each whole. Raises ConfigError ``file-unreadable``."""
    read = []
    for path in paths:
        try:
            read.append(path.read_bytes())
        except OSError as error:
            hint = "make it readable by the user that dongled runs as; `sudo dongled doctor` looks at all"
            raise ConfigError("file-unreadable", f"{path}: {error.strerror}", hint) from None
    return read


def read_chain(path: Path) -> Sequence[bytes]:
    """A certificate and what leads from it, DER, of a PEM file. Raises AgentError."""
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, *MALFORMED) as error:
        raise AgentError(
            "certificate-file", f"{path} holds no certificates: {error}", "Give PEM, leaf first."
        ) from None
    return [certificate.public_bytes(Encoding.DER) for certificate in chain]


def janus_settings(meeting: MeetingSettings) -> JanusSettings:
    """Reads the meeting's secrets. Raises ConfigError and SfuError."""
    return JanusSettings(
        url=meeting.sfu.url,
        room=str(meeting.room),
        ca_file=meeting.sfu.ca_file,
        room_pin=_secret(meeting.room_pin),
        token=_secret(meeting.sfu.token),
        api_secret=_secret(meeting.sfu.api_secret),
        create=meeting.create,
        encrypted=meeting.encryption == "required",
    )


def ice_settings(settings: Settings) -> IceSettings:
    turn = tuple(
        TurnServer(server.url, server.username, _secret(server.password) or "")
        for server in settings.ice.turn
    )
    return IceSettings(settings.ice.stun, turn)


def outbound_settings(streams: Iterable[StreamSettings]) -> list[OutboundSettings]:
    return [_outbound(stream) for stream in streams]


def showable(streams: Iterable[StreamSettings]) -> Showable:
    """What may be shown privately, and is where nothing is named."""
    mine = {stream.id: stream for stream in outbound_settings(streams)}
    return Showable(mine, list(mine))


def _outbound(stream: StreamSettings) -> OutboundSettings:
    source = partial(
        open_source,
        stream.source,
        width=stream.width,
        height=stream.height,
        fps=stream.fps,
        device=stream.device,
        path=stream.path,
        loop=stream.loop,
    )
    return OutboundSettings(stream.id, stream.codec, stream.bitrate, source)


def wanted(meeting: MeetingSettings) -> Callable[[Peer, Stream], bool]:
    subscribe = meeting.subscribe
    if isinstance(subscribe, str):
        return lambda peer, stream: subscribe == "all"
    return lambda peer, stream: peer.terminal in subscribe


def sink_maker(sinks: Sequence[SinkSettings]) -> Callable[[str, str], Sinks]:
    """Makes the sinks of a stream from the peer's name and the stream's id, both put into file names."""

    def make(peer: str, stream: str) -> Sinks:
        pictures: list[PictureSink] = []
        encoded: list[EncodedSink] = []
        for sink in sinks:
            match sink.kind:
                case "null":
                    pictures.append(NullSink())
                case "png":
                    pictures.append(LastingPictures(PngSink(_path(sink, peer, stream), every=sink.every)))
                case "mkv":
                    encoded.append(LastingRecording(partial(_recording, _path(sink, peer, stream))))
        return Sinks(pictures, encoded)

    return make


def _recording(path: Path) -> MkvSink:
    return MkvSink(free_name(path))


def _path(sink: SinkSettings, peer: str, stream: str) -> Path:
    """A peer's name is the peer's own word: nothing of it but plain characters gets into a path."""
    assert sink.path is not None
    safe = re.sub(r"[^A-Za-z0-9-]", "_", peer.removeprefix("urn:uuid:"))
    return Path(str(sink.path).replace("{peer}", safe).replace("{stream}", stream))
