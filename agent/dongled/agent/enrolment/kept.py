"""Accepted certificates, with their chains, in the state directory; a copy of the leaf is on the token.

Written before the token is: from then on the new certificate counts, whatever happens to the token, and
until then the old one does. There is no secret in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dongled.agent.enrolment.est import EnrolmentError
from dongled.agent.policy.profile import MALFORMED, MAX_CERTIFICATE, MAX_PATH
from dongled.tokens.api import KeyInfo, KeyRole
from dongled.tokens.describe import certified_point, issued_at
from dongled.tokens.owner import give_away

log = logging.getLogger(__name__)

MAX_SIZE = 2 * MAX_PATH * MAX_CERTIFICATE  # bytes of PEM


class KeptChains:
    """``identity.pem`` and ``data.pem`` in ``certificates`` of the state directory, leaf first."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "certificates"

    def keep(self, role: KeyRole, chain: Sequence[bytes]) -> None:
        """Replace a chain (DER) whole, or not at all. Raises EnrolmentError ``state``."""
        path = self._path(role)
        new = path.with_suffix(f".{os.getpid()}")
        pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)
        try:
            made = not self._directory.exists()
            self._directory.mkdir(parents=True, exist_ok=True)
            with _opened(self._directory) as directory:
                if made:
                    give_away(directory, self._directory.parent)
                new.unlink(missing_ok=True)
                with new.open("xb") as file:
                    give_away(file.fileno(), self._directory)
                    file.write(pem)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
                os.fsync(directory)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise EnrolmentError(
                "state", f"cannot keep the certificate in {path}: {error.strerror}", "check state.directory"
            ) from None

    def load(self, role: KeyRole) -> list[bytes]:
        """The chain (DER) that was kept; empty where none was, or with a warning where it is broken."""
        path = self._path(role)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
            if len(data) > MAX_SIZE:
                raise ValueError("it is too large")
            found = x509.load_pem_x509_certificates(data)[: MAX_PATH + 1]
        except FileNotFoundError:
            return []
        except (OSError, *MALFORMED) as error:
            log.warning("the certificates in %s are ignored: %s", path, error)
            return []
        return [certificate.public_bytes(Encoding.DER) for certificate in found]

    def in_use(self, key: KeyInfo) -> list[bytes]:
        """A key's chain: of the one on the token and the one kept, the one issued later. May be empty."""
        kept = self.load(key.role)
        if kept and certified_point(kept[0]) != key.point:
            kept = []
        if key.certificate is None or (kept and issued_at(kept[0]) >= issued_at(key.certificate)):
            return kept
        return [key.certificate]

    def _path(self, role: KeyRole) -> Path:
        return self._directory / f"{role.value}.pem"


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
