"""Is a certificate revoked, as far as is known now? Knows what it was taught, asks nobody itself.

The grant protocol wants its answer at once. So what is not known is refused as ``revocation-pending`` and
asked for in the background; terminals ask again, and by then it is known.

A verdict, in this order:

1. a verified "revoked"        wins, however old: only a newer answer of the same source takes it back
2. a verified, fresh "unknown" the platform does not stand for this certificate
3. a verified, fresh "good"    of any source that is used here
4. the operator's grace        the last good answer ran out lately, and no newer one can be had
5. nothing of all that         refused, with what went wrong when it was asked for
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dongled.agent.policy.api import PolicyRefused, PolicyUndecided

# How far a platform's clock may be ahead of ours.
SKEW = timedelta(minutes=5)

# Only certificates that a configured root stands for get here, so this is a large meeting, not a flood.
MAX_KNOWN = 1024


class Source(StrEnum):
    OCSP = "ocsp"
    CRL = "crl"


class Mode(StrEnum):
    """What the operator wants to be asked. ``either``: one good answer does, one bad answer too."""

    OFF = "off"
    CRL = "crl"
    OCSP = "ocsp"
    EITHER = "either"

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for source in Source if self in (Mode.EITHER, source))


class Status(StrEnum):
    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Pair:
    """A certificate and the one that certified it; revocation is about both."""

    certificate: x509.Certificate
    issuer: x509.Certificate

    @cached_property
    def issuer_key(self) -> bytes:
        """SHA-256 of the issuer's name and public key: who it is, whichever of its certificates is shown."""
        key = self.issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(self.issuer.subject.public_bytes() + key).digest()

    @cached_property
    def key(self) -> bytes:
        """By issuer and serial: a certificate's hash changes with a new spelling of its signature."""
        return self.issuer_key + self.certificate.serial_number.to_bytes(32)


def pairs_of(path: Sequence[x509.Certificate]) -> list[Pair]:
    """Each certificate of a path, leaf first, with its issuer; a root is believed without (RFC 5280, 6.1)."""
    return [Pair(certificate, issuer) for certificate, issuer in pairwise(path)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source said about one certificate, verified. Times are aware.

    It is good or unknown until ``fresh_until``; ``produced`` has surely passed. ``detail`` is for operators,
    ``der`` an OCSP answer as it came, where it is small enough to be stapled.
    """

    source: Source
    status: Status
    this_update: datetime
    fresh_until: datetime
    produced: datetime
    detail: str = ""
    der: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class _Known:
    answers: dict[Source, Answer] = field(default_factory=dict)
    failures: dict[Source, PolicyRefused] = field(default_factory=dict)


class Revocations:
    """What is known of certificates, and the verdict on a path.

    ``asked`` is told each certificate that is asked about, whether known or not. ``grace`` is how long a
    good answer still counts after it ran out.
    """

    def __init__(self, mode: Mode, *, grace: timedelta = timedelta(0)) -> None:
        self.sources = mode.sources
        self.asked: Callable[[Pair], None] | None = None
        self._grace = grace
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def check(self, path: Sequence[x509.Certificate], now: datetime) -> None:
        """Judge each certificate of a verified path (leaf first, root last). Raises PolicyRefused."""
        if not self.sources:
            return
        pairs = pairs_of(path)
        if not pairs:
            raise PolicyUndecided("revocation-pending", "nothing is known of this certificate's issuer")
        for pair in pairs:
            if self.asked is not None:
                self.asked(pair)
        for pair in pairs:
            self._judge(pair, now)

    def learn(self, pair: Pair, answer: Answer) -> None:
        """Keep a verified answer. Raises PolicyRefused ``ocsp-replayed`` or ``crl-replayed`` for an older."""
        known = self._entry(pair)
        held = known.answers.get(answer.source)
        if held is not None and answer.this_update < held.this_update:
            raise PolicyRefused(
                f"{answer.source}-replayed",
                f"an answer of {answer.this_update:%Y-%m-%d %H:%M:%S}, older than the one that is known",
            )
        known.failures.pop(answer.source, None)
        # In one and the same second the worse of two answers stands.
        if held is None or answer.this_update > held.this_update or held.status is not Status.REVOKED:
            known.answers[answer.source] = answer

    def failed(self, pair: Pair, source: Source, error: PolicyRefused) -> None:
        """Remember why no newer answer could be had; what is held is kept."""
        self._entry(pair).failures[source] = error

    def why_unknown(self, pair: Pair) -> str:
        """The reason why a certificate whose answers are all missing or stale would be refused."""
        return self._missing(self._known.get(pair.key, _Known()), "").reason

    def held(self, pair: Pair) -> list[Answer]:
        """The verified answers about a certificate, fresh or not."""
        known = self._known.get(pair.key)
        return list(known.answers.values()) if known else []

    def _entry(self, pair: Pair) -> _Known:
        known = self._known.setdefault(pair.key, _Known())
        self._known.move_to_end(pair.key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    def _judge(self, pair: Pair, now: datetime) -> None:
        known = self._known.get(pair.key, _Known())
        answers = list(known.answers.values())
        name = pair.certificate.subject.rfc4514_string()[:256]
        # 1.
        for answer in answers:
            if answer.status is Status.REVOKED:
                raise PolicyRefused(
                    "revoked", f"{name!r}: {answer.source.upper()} says revoked {answer.detail}"
                )
        fresh = [answer for answer in answers if now <= answer.fresh_until]
        # 2.
        if any(answer.status is Status.UNKNOWN for answer in fresh):
            raise PolicyRefused(
                "ocsp-unknown",
                f"{name!r}: the OCSP responder does not know this certificate",
                "ask whether the platform issued it, and whether this responder is its responder",
            )
        # 3. and 4.
        for answer in answers:
            if answer.status is Status.GOOD and now <= answer.fresh_until + self._grace:
                return
        # 5.
        raise self._missing(known, name)

    def _missing(self, known: _Known, name: str) -> PolicyUndecided:
        failures = sorted(known.failures.values(), key=lambda error: error.reason == "revocation-no-source")
        if failures:
            text = "; ".join(str(error) for error in failures)
            return PolicyUndecided(failures[0].reason, f"{name!r}: {text}", failures[0].hint)
        if known.answers:
            source = next(iter(known.answers))
            return PolicyUndecided(f"{source}-stale", f"{name!r}: the last answer ran out")
        return PolicyUndecided("revocation-pending", f"{name!r}: it is being asked whether it was revoked")
