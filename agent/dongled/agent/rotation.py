"""Another key in place of one that a terminal has: made, certified, pinned, and then the old one removed.

At each moment the key that the configuration pins is on the token with its certificate. How far a rotation
is, the token says (``dongled.tokens.rotation``) and the configuration.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from dongled.agent import wiring
from dongled.agent.control.client import fetch_status
from dongled.agent.enrolment.accept import Wanted, accept
from dongled.agent.enrolment.est import EnrolmentError
from dongled.agent.enrolment.kept import KeptChains
from dongled.agent.errors import AgentError
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.profile import Kind
from dongled.agent.terminal import own_name
from dongled.config.api import Settings
from dongled.tokens import provision, rotation
from dongled.tokens.api import KeyInfo, KeyPin, KeyPins, KeyRole
from dongled.tokens.ledger_file import FileLedger

_KINDS = {KeyRole.IDENTITY: Kind.IDENTITY, KeyRole.DATA: Kind.DATA}


class Rotation:
    """Of one key of a configured terminal.

    Each step raises AgentError, TokenError or ConfigError, and may be called again.
    """

    def __init__(self, settings: Settings, role: KeyRole) -> None:
        if settings.token is None:
            raise AgentError("no-token", "no token is configured", "fill in [token] of the settings")
        self._settings = settings
        self._role = role
        self._section = settings.token.identity if role is KeyRole.IDENTITY else settings.token.data
        self._place = wiring.places(settings)[role]()
        self._ledger = FileLedger(settings.state.directory)

    @property
    def pin(self) -> KeyPin:
        """The key that the configuration pins."""
        return wiring.key_pin(self._section)

    @property
    def names_certificate(self) -> bool:
        """The configuration names a file for its certificate, which would be another key's."""
        return self._section.certificate is not None

    async def begin(self) -> x509.CertificateSigningRequest:
        """Make the next key, unless it is there; the request for its certificate, in the old one's name."""
        # What could not be asked for is not made.
        old = self._chain(
            (await rotation.look(self._place, self._role, self.pin, ledger=self._ledger)).pinned
        )
        following = await rotation.begin(self._place, self._role, self.pin, ledger=self._ledger)
        place, pins = self._place, KeyPins.to(self._role, following.pin)
        subject = x509.load_der_x509_certificate(old[0]).subject
        return await provision.request_certificate(
            place.module, place.uri, place.pin, self._role, subject, own_name(old[0]),
            pins=pins, ledger=self._ledger,
        )  # fmt: skip

    async def certify(self, certificates: Sequence[x509.Certificate]) -> tuple[KeyInfo, bool]:
        """Judge the next key's certificate, leaf first, and store it on the token.

        Returns the next key, and whether the leaf alone leads to a root.
        """
        pair = await rotation.look(self._place, self._role, self.pin, ledger=self._ledger)
        if pair.taken_over:
            # It was pinned before; what comes now is a certificate of the key in use.
            following = old = pair.pinned
        elif pair.following is None:
            raise AgentError(
                "rotation-not-begun",
                f"there is no key on the token that is to follow the {self._role.value} key",
                f"`dongled token rotate --role {self._role.value}` makes one, and its request",
            )
        else:
            following, old = pair.following, pair.pinned
        chain = self._accepted(certificates, following, self._chain(old)[0])
        place, pins = self._place, KeyPins.to(self._role, following.pin)
        stored = await provision.store_certificate(
            place.module, place.uri, place.pin, self._role, certificates[0], pins=pins, ledger=self._ledger
        )
        return stored, len(chain) == 1

    async def finish(self, socket: Path) -> bool:
        """Remove the old key, now that the configuration pins the new one; False if that was done before."""
        pair = await rotation.look(self._place, self._role, self.pin, ledger=self._ledger)
        if pair.following is not None:
            raise AgentError(
                "rotation-early",
                f"the configuration pins the old {self._role.value} key still",
                "give the new one's certificate first: `dongled token rotate --certificate FILE`",
            )
        if not pair.taken_over:
            return False
        chain = self._chain(pair.pinned)
        self._accepted([x509.load_der_x509_certificate(der) for der in chain], pair.pinned, chain[0])
        await self._check_daemon(socket)
        await rotation.finish(self._place, self._role, self.pin, ledger=self._ledger)
        return True

    def _chain(self, key: KeyInfo) -> Sequence[bytes]:
        """A pinned key's certificate and what leads from it. Raises AgentError ``no-certificate``."""
        chain = wiring.chain_in_use(self._section, key, KeptChains(self._settings.state.directory))
        if not chain:
            raise AgentError(
                "no-certificate",
                f"the {self._role.value} key that is pinned has no certificate",
                "have one issued and import it: docs/tokens.md",
            )
        return chain

    def _accepted(self, given: Sequence[x509.Certificate], key: KeyInfo, like: bytes) -> list[bytes]:
        """The chain, if it is for that key, believed, and of the terminal that ``like`` names."""
        provision.check_usage(self._role, given[0])
        subject = x509.load_der_x509_certificate(like).subject.rfc4514_string()
        wanted = Wanted(_KINDS[self._role], key.point, own_name(like), subject)
        roots = wiring.read_files(self._settings.trust.roots)
        verifier = CertificateVerifier(roots, wiring.open_clock(self._settings))
        try:
            return accept(given[0], given[1:], wanted, verifier)
        except EnrolmentError as error:
            hint = error.hint or "give it with all that leads to one of trust.roots; see docs/certificates.md"
            raise AgentError(error.reason, str(error), hint) from error

    async def _check_daemon(self, socket: Path) -> None:
        """A daemon that runs has to use the new key by now: the old one would go from under its hands."""
        try:
            status = await fetch_status(socket)
        except AgentError as error:
            if error.reason != "not-running":
                raise
            return
        if not any(
            key.role == self._role.value and key.sha256 == self.pin.sha256.hex() for key in status.token.keys
        ):
            raise AgentError(
                "rotation-early",
                f"the daemon that runs does not use the new {self._role.value} key",
                "restart it (a reload does not change keys), and see `dongled status`",
            )


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """One rotation at a time. Raises AgentError ``rotation-busy``."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise AgentError("state", f"{state}: {error.strerror}", "check state.directory") from None
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AgentError(
                "rotation-busy", "another key of this terminal is being rotated just now", "wait for it"
            ) from None
        yield
    finally:
        os.close(directory)


def pin_text(key: KeyInfo, certificate: Path | None) -> str:
    """What pins a key, as a configuration takes it."""
    lines = [
        "# Written by `dongled token rotate`.",
        f"[token.{key.role.value}]",
        f'id = "{key.cka_id.hex()}"',
        f'sha256 = "{key.sha256.hex()}"',
    ]
    if certificate is not None:
        lines.append(f"certificate = {json.dumps(str(certificate))}")
    return "\n".join(lines) + "\n"


def write_pin(path: Path, text: str) -> None:
    """Write a drop-in, whole or not at all. Raises AgentError ``drop-in``."""
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w") as file:
            # The daemon's user reads it, whoever writes it; there is no secret in it.
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise AgentError("drop-in", f"cannot write {path}: {error.strerror}", "check the path") from None
