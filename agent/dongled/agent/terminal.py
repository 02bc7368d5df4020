"""Who this terminal is: its opened token, its certificates, and what it believes of others."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import Policy
from dongled.agent.policy.evidence import EvidenceSource, gatherer
from dongled.agent.policy.profile import MALFORMED
from dongled.tokens.api import TokenKeys
from dongled.tokens.errors import TokenError


@dataclass(frozen=True, slots=True)
class Terminal:
    """Chains are DER, leaf first; ``data_chain`` is empty where the data key has no certificate.

    ``evidence`` is what it shows with its requests, ``touch_wanted`` names who wants a touch among that.
    ``lost`` is done, with the reason, once the token cannot be used any more. Made on the event loop.
    """

    urn: str
    keys: TokenKeys
    identity_chain: Sequence[bytes]
    data_chain: Sequence[bytes]
    policy: Policy
    evidence: EvidenceSource = field(default_factory=lambda: gatherer([]))
    touch_wanted: Callable[[], list[str]] = list
    lost: asyncio.Future[TokenError] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def lose(self, error: TokenError) -> None:
        """End whatever rests on this token."""
        if not self.lost.done():
            self.lost.set_result(error)


def own_name(certificate: bytes) -> str:
    """The one ``urn:uuid:`` of a certificate. Raises AgentError ``own-certificate``."""
    hint = "Have it issued by docs/certificates.md and import it with 'dongled token import-cert'."
    try:
        names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (*MALFORMED, x509.ExtensionNotFound):
        uris = []
    if len(uris) != 1 or not uris[0].startswith("urn:uuid:"):
        raise AgentError(
            "own-certificate", "This terminal's certificate does not name it by one urn:uuid.", hint
        )
    return uris[0]


class IdentityClaim:
    """One process at a time may use an identity on this machine.

    Held as an abstract Unix socket (unix(7)): the kernel gives it up when the process dies, however it
    dies, and nothing is left on the disk.
    """

    def __init__(self, point: bytes) -> None:
        """``point`` is the identity's public key, which stays when certificates are renewed.

        Raises AgentError ``identity-held`` while another process holds it."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = "\0dongled/identity/" + hashlib.sha256(point).hexdigest()
        try:
            self._socket.bind(name)
        except OSError:
            self._socket.close()
            raise AgentError(
                "identity-held",
                "Another process on this machine is using this identity.",
                "Stop the running daemon, or give this command a terminal, and a token, of its own.",
            ) from None

    def release(self) -> None:
        self._socket.close()
