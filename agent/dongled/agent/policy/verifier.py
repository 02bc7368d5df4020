"""The policy as the daemon uses it: certificates, the clock and the lists, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeGuard

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dongled.agent.errors import AgentError
from dongled.agent.policy.allowlist import AllowList
from dongled.agent.policy.api import CheckedCertificate, EvidenceCheck, PolicyRefused, Presented
from dongled.agent.policy.authorizer.api import Authorizer, question_about
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.ocsp import find_answer
from dongled.agent.policy.profile import Assurance, Kind, Role
from dongled.agent.policy.revocation import Pair, Revocations, Source, Status, pairs_of
from dongled.agent.protocol import limits


class CertificatePolicy:
    """Implements ``dongled.agent.policy.api.Policy``; whatever is not clearly allowed is refused.

    ``roots`` are PEM or DER bytes; ``allow_viewers`` and ``allow_publishers`` are ``urn:uuid:...`` or
    ``"*"``, and nobody where empty; ``minimum_assurance`` holds for both keys of a terminal.
    ``revocations`` None: nothing is ever taken for revoked; ``max_age`` is of OCSP answers that terminals
    bring; ``evidence`` is what else they must show. ``authorizer`` decides in place of the list of viewers.
    ``recorded`` raises PolicyRefused where nothing may be granted, since it could not be recorded.
    Raises AgentError for settings that cannot be used.
    """

    def __init__(
        self,
        roots: Sequence[bytes],
        clock: TrustedClock,
        *,
        allow_viewers: Iterable[str] = (),
        allow_publishers: Iterable[str] = (),
        minimum_assurance: str = Assurance.SOFTWARE,
        revocations: Revocations | None = None,
        max_age: timedelta = timedelta(0),
        evidence: Sequence[EvidenceCheck] = (),
        authorizer: Authorizer | None = None,
        recorded: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._revocations = revocations
        self._max_age = max_age
        self._evidence = tuple(evidence)
        self._authorizer = authorizer
        self._recorded = recorded
        self.change(roots, allow_viewers, allow_publishers, minimum_assurance)

    def change(
        self,
        roots: Sequence[bytes],
        allow_viewers: Iterable[str],
        allow_publishers: Iterable[str],
        minimum_assurance: str,
    ) -> None:
        """Judge by these from now on. Raises AgentError, and then nothing has changed."""
        certificates = CertificateVerifier(roots, self._clock, self._revocations)
        viewers, publishers = AllowList("viewer", allow_viewers), AllowList("publisher", allow_publishers)
        try:
            self._minimum = Assurance(minimum_assurance)
        except ValueError as error:
            raise AgentError("bad-assurance", str(error), 'write "software" or "hardware"') from error
        self._certificates, self._viewers, self._publishers = certificates, viewers, publishers

    def check_identity(self, chain: Sequence[bytes]) -> CheckedCertificate:
        """Check an identity certificate and its chain (DER, leaf first). Raises PolicyRefused."""
        found = self._certificates.verify(chain, Kind.IDENTITY)
        if not found.roles:
            raise PolicyRefused(
                "no-role",
                f"{found.terminal} has no role, or an intermediate above it may not give any",
                "issue it with a role's policy OID, and its issuer with that or anyPolicy",
            )
        self._require_assurance(found.assurance, "identity key")
        return CheckedCertificate(
            terminal=found.terminal,
            subject=found.subject,
            leaf=found.sha256,
            public_key=found.public_key,
            roles=found.roles,
            assurance=found.assurance,
            valid_until=found.valid_until,
            path=found.path,
        )

    def check_data_key(self, identity: CheckedCertificate, chain: Sequence[bytes], point: bytes) -> str:
        """Check the announced data key: on the curve, not the identity's, and the terminal's own.

        Returns ``"hardware"`` only where a certificate says so. Raises PolicyRefused.
        """
        try:
            announced = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError as error:
            raise PolicyRefused("bad-point", "the announced data key is not a point of P-256") from error
        if _point(announced) != point:
            raise PolicyRefused("bad-point", "the announced data key is compressed")
        if point == _point(identity.public_key):
            raise PolicyRefused("key-reused", "the data key is the identity key")

        # A key that an announcement alone vouches for may be anywhere.
        assurance = Assurance.SOFTWARE
        if chain:
            found = self._certificates.verify(chain, Kind.DATA)
            if found.terminal != identity.terminal:
                raise PolicyRefused(
                    "data-terminal-mismatch",
                    f"the data certificate is {found.terminal}'s, not {identity.terminal}'s",
                )
            if found.subject != identity.subject:
                raise PolicyRefused(
                    "data-subject-mismatch",
                    f"the data certificate's subject is {found.subject}, the identity's {identity.subject}",
                )
            if _point(found.public_key) != point:
                raise PolicyRefused("data-key-mismatch", "the announced data key is not the certified one")
            assurance = found.assurance
        self._require_assurance(assurance, "data key")
        return assurance

    def staple(self, chains: Sequence[Sequence[bytes]], answers: Sequence[bytes]) -> None:
        """Learn OCSP answers (DER) that a terminal brought for certificates of its chains.

        Where OCSP is not looked at, neither are they. Each that holds is learned; an older one than is known
        already is no news. Raises PolicyRefused for the first that does not hold.
        """
        if not answers or not self._uses_ocsp(self._revocations):
            return
        if len(answers) > limits.STAPLES:
            raise PolicyRefused(
                "ocsp-too-large", f"{len(answers)} OCSP answers, at most {limits.STAPLES} are read"
            )
        pairs, failed = self._pairs(chains), None
        for data in answers:
            try:
                pair, answer = find_answer(data, pairs, self._clock.now(), self._max_age)
                self._revocations.learn(pair, answer)
                self._clock.vouch(answer.produced)
            except PolicyRefused as error:
                if error.reason != "ocsp-replayed":
                    failed = failed or error
        if failed is not None:
            raise failed

    def known_answers(self, chains: Sequence[Sequence[bytes]]) -> list[bytes]:
        """Current OCSP answers (DER) that say "good" of certificates in these chains.

        The certificates are asked about from now on. None where OCSP is not
        looked at. Raises PolicyRefused for a chain that would not be believed here.
        """
        if not self._uses_ocsp(self._revocations):
            return []
        found, now = [], self._clock.now()
        for pair in self._pairs(chains):
            if self._revocations.asked is not None:
                self._revocations.asked(pair)
            held = self._revocations.held(pair)
            good = [each for each in held if each.status is Status.GOOD and now <= each.fresh_until]
            found += [each.der for each in good if each.der]
        return found

    def _pairs(self, chains: Sequence[Sequence[bytes]]) -> list[Pair]:
        """Each certificate of the chains' paths once, with its issuer."""
        found = {}
        for chain in chains:
            if chain:
                path, _ = self._certificates.path(chain)
                found.update({pair.key: pair for pair in pairs_of(path)})
        return list(found.values())

    @staticmethod
    def _uses_ocsp(revocations: Revocations | None) -> TypeGuard[Revocations]:
        return revocations is not None and Source.OCSP in revocations.sources

    def may_publish(self, identity: CheckedCertificate) -> None:
        """May streams of this terminal be asked for and watched here? Raises PolicyRefused."""
        self._require_current(identity)
        _require_role(identity, Role.PUBLISHER)
        self._publishers.check(identity.terminal)

    def may_view(self, identity: CheckedCertificate, stream: str, presented: Presented) -> str:
        """May this terminal have the key of my stream, now? Each step prevents one thing:

        1. a certificate that ran out, or was revoked, since it was checked;
        2. a camera, a gateway or a moderator that nobody certified to watch;
        3. evidence that does not hold, or is missing where it is required;
        4. a grant that leaves no trace, where there must be one;
        5. somebody certified whom the owner did not mean.

        Returns on what grounds. Raises PolicyRefused.
        """
        # 1.
        self._require_current(identity)
        # 2.
        _require_role(identity, Role.VIEWER)
        # 3.
        shown = [word for each in self._evidence for word in each.check(identity, presented, stream)]
        # 4.
        self._recorded()
        # 5.
        if self._authorizer is None:
            self._viewers.check(identity.terminal)
            grounds = "on the list of viewers"
        else:
            grounds = self._authorizer.decide(question_about(identity, presented, shown), stream)
        return ", ".join([grounds, *shown])

    def _require_current(self, identity: CheckedCertificate) -> None:
        # The certificate was checked when it was announced; it may have run out or been revoked since.
        now = self._clock.now()
        if identity.valid_until is None or now > identity.valid_until:
            raise PolicyRefused("expired", f"the certificate of {identity.terminal} has expired meanwhile")
        if self._revocations is not None:
            self._revocations.check(identity.path, now)

    def _require_assurance(self, assurance: Assurance, what: str) -> None:
        if not assurance.satisfies(self._minimum):
            raise PolicyRefused(
                "assurance-too-low",
                f"the {what} is certified as {assurance}, {self._minimum} is required here",
            )


def _require_role(identity: CheckedCertificate, role: Role) -> None:
    if role not in identity.roles:
        raise PolicyRefused(
            "wrong-role",
            f"{identity.terminal} is {' and '.join(sorted(identity.roles))}, not {role}",
            f"its certificate needs the {role} role",
        )


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
