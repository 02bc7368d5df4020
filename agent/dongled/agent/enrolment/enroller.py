"""Gets a terminal's certificates: asks, judges, and only then lets the new one take the old one's place.

1. The time has to be known, and the platform's authorities are fetched, before anything is spent.
2. The request is signed on the token, by the key that it is for.
3. The answer is judged (``accept``). Up to here the old certificate is in use.
4. The chain is kept in the state directory, whole or not at all. From here on the new one is in use.
5. The leaf is stored on the token. Where that fails, or the power does, it is tried again at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509

from dongled.agent.enrolment.accept import Wanted, accept
from dongled.agent.enrolment.client import EstClient, EstServer
from dongled.agent.enrolment.est import EnrolmentError, Pending
from dongled.agent.enrolment.kept import KeptChains
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import MALFORMED, Kind, terminal_of
from dongled.tokens import provision
from dongled.tokens.api import KeyPins, KeyRole, TokenKeys
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import PinLedger
from dongled.tokens.opened import Place
from dongled.tokens.pin import PinSource

log = logging.getLogger(__name__)

# Identity first: the data certificate takes its name and subject from it.
ROLES = (KeyRole.IDENTITY, KeyRole.DATA)
_KINDS = {KeyRole.IDENTITY: Kind.IDENTITY, KeyRole.DATA: Kind.DATA}


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """How a key's token is opened anew, to sign requests and to store certificates."""

    place: Place
    ledger: PinLedger
    officer: PinSource | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for where there is no certificate yet, and the platform's labels.

    ``terminal`` None: the name comes from the identity key.
    """

    subject: x509.Name
    terminal: str | None
    labels: dict[KeyRole, str | None]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """``stored`` False: the token could not be written to, and the copy that was kept is in use."""

    role: KeyRole
    certificate: x509.Certificate
    stored: bool


class Enroller:
    """Both certificates of an opened token.

    Each method raises EnrolmentError, PolicyRefused, ConfigError or TokenError.
    """

    def __init__(
        self,
        keys: TokenKeys,
        tokens: Mapping[KeyRole, TokenAccess],
        server: EstServer,
        request: Request,
        verifier: CertificateVerifier,
        clock: TrustedClock,
        kept: KeptChains,
        client: Callable[[EstServer], EstClient] = EstClient,
    ) -> None:
        self._tokens = tokens
        self._server = server
        self._request = request
        self._verifier = verifier
        self._clock = clock
        self._kept = kept
        self._client = client
        self._keys = {KeyRole.IDENTITY: keys.identity, KeyRole.DATA: keys.data}
        self._waiting: dict[KeyRole, x509.CertificateSigningRequest] = {}

    def chain(self, role: KeyRole) -> list[bytes]:
        """The chain in use, DER, leaf first; empty where there is none."""
        return self._kept.in_use(self._keys[role])

    def certificate(self, role: KeyRole) -> x509.Certificate | None:
        """The leaf in use."""
        chain = self.chain(role)
        return x509.load_der_x509_certificate(chain[0]) if chain else None

    def on_token(self, role: KeyRole) -> bool:
        """Is the leaf in use on the token too?"""
        chain = self.chain(role)
        return bool(chain) and chain[0] == self._keys[role].certificate

    @property
    def terminal(self) -> str:
        """The name to ask for: that of the identity certificate, or what is configured, or the key's."""
        identity = self.certificate(KeyRole.IDENTITY)
        if identity is None:
            return self._request.terminal or provision.terminal_of(self._keys[KeyRole.IDENTITY])
        try:
            names = identity.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            return terminal_of(names)
        except (*MALFORMED, x509.ExtensionNotFound):
            raise EnrolmentError(
                "own-certificate",
                "the identity certificate in use does not name a terminal",
                "replace it by hand: dongled token import-cert",
            ) from None

    async def enrol(self, role: KeyRole) -> Enrolled:
        """Get a certificate, the first or the next. Raises Pending too."""
        old, terminal = self.certificate(role), self.terminal
        identity = old or self.certificate(KeyRole.IDENTITY)
        if role is KeyRole.DATA and identity is None:
            raise EnrolmentError(
                "no-certificate", "the identity key has no certificate yet", "enrol the identity first"
            )
        subject = identity.subject if identity is not None else self._request.subject
        wanted = Wanted(
            _KINDS[role],
            self._keys[role].point,
            terminal,
            identity.subject.rfc4514_string() if identity is not None else None,
            old.not_valid_before_utc if old is not None else None,
            old.not_valid_after_utc if old is not None else None,
        )
        label = self._request.labels[role]
        # 1.
        now = self._clock.now()
        # RFC 7030, 4.2.2, is for those who have one; who has none that counts is a newcomer again.
        again = old is not None and now <= old.not_valid_after_utc
        async with self._client(self._server) as client:
            authorities = await client.authorities(label)

            # 2.
            request = self._waiting.pop(role, None) or await self._sign(role, subject, terminal)
            try:
                issued = await client.enroll(request, label, again=again)
            except Pending:
                # RFC 7030, 4.2.3: the same is asked again.
                self._waiting[role] = request
                raise

        # 3.
        chain = accept(issued, authorities, wanted, self._verifier)

        # 4.
        self._kept.keep(role, chain)

        # 5.
        return Enrolled(role, issued, await self._store(role, issued))

    async def _sign(self, role: KeyRole, subject: x509.Name, terminal: str) -> x509.CertificateSigningRequest:
        token = self._tokens[role]
        module, uri, pin = token.place.module, token.place.uri, token.place.pin
        return await provision.request_certificate(
            module, uri, pin, role, subject, terminal, pins=self._pins(role), ledger=token.ledger
        )

    def _pins(self, role: KeyRole) -> KeyPins:
        """This very key: while keys are rotated, its label may still be its predecessor's."""
        return KeyPins.to(role, self._keys[role].pin)

    async def finish(self) -> None:
        """Store on the token what was accepted and never got there."""
        for role in ROLES:
            leaf = self.certificate(role)
            if leaf is not None and not self.on_token(role):
                await self._store(role, leaf)

    async def _store(self, role: KeyRole, certificate: x509.Certificate) -> bool:
        token = self._tokens[role]
        try:
            self._keys[role] = await provision.store_certificate(
                token.place.module,
                token.place.uri,
                token.place.pin,
                role,
                certificate,
                pins=self._pins(role),
                officer=token.officer,
                ledger=token.ledger,
            )
        except TokenError as error:
            log.warning(
                "the new %s certificate is in use, but not on the token: %s [%s]", role, error, error.reason
            )
            return False
        return True
