"""Keeps what is known of revocations fresh: asks OCSP responders and fetches CRLs in the background.

A certificate is asked about as long as the policy is asked about it, and a while longer. It is asked about
again well before its answer runs out, and often enough to notice in mid-meeting that it was revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from dongled.agent.clock import boottime
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.crl import MAX_CRL, VerifiedCrl, distribution_urls, verify_crl
from dongled.agent.policy.download import TIMEOUT, Downloader, Unchanged
from dongled.agent.policy.ocsp import MAX_RESPONSE, NONCE_SIZE, make_request, verify_response
from dongled.agent.policy.revocation import MAX_KNOWN, Answer, Pair, Revocations, Source, Status

log = logging.getLogger(__name__)

AT_ONCE = 4  # certificates asked about together
URLS_TRIED = 2  # of those that a certificate names
CRLS_KEPT = 8
IDLE = 900.0  # seconds after which a certificate that nobody asks about is left alone
RETRY_FIRST = 5.0  # seconds after a failure, then twice as long each time
RETRY_MOST = 60.0  # seconds
RETRY_LEAST = 1.0  # seconds
SOONEST = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """``responder`` is asked instead of those that certificates name, and so are ``crls``, if there are any.

    ``refresh`` in seconds.
    """

    max_age: timedelta
    refresh: float
    responder: str | None = None
    crls: Sequence[Path | str] = ()


@dataclass(slots=True)
class _Watched:
    pair: Pair
    asked: float
    due: float
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Fetched:
    data: bytes
    tag: str | None
    crl: VerifiedCrl


class RevocationFetcher:
    """Teaches ``revocations`` what it is asked about. ``steady`` returns seconds that never jump."""

    def __init__(
        self,
        revocations: Revocations,
        settings: FetchSettings,
        clock: TrustedClock,
        *,
        timeout: float = TIMEOUT,
        steady: Callable[[], float] = boottime,
    ) -> None:
        self._revocations = revocations
        self._settings = settings
        self._clock = clock
        self._steady = steady
        self._timeout = timeout
        self._watched: OrderedDict[bytes, _Watched] = OrderedDict()
        self._crls: OrderedDict[tuple[str, bytes], _Fetched] = OrderedDict()
        self._wake = asyncio.Event()
        self._learned: Callable[[], None] = lambda: None
        revocations.asked = self._asked

    def on_learned(self, learned: Callable[[], None]) -> None:
        """Call ``learned`` after each answer, and after each failure to get one."""
        self._learned = learned

    def failing(self) -> Counter[str]:
        """About how many certificates nobody had an answer when last asked, by the reason."""
        return Counter(
            self._revocations.why_unknown(each.pair) for each in self._watched.values() if each.failures
        )

    def _asked(self, pair: Pair) -> None:
        now = self._steady()
        watched = self._watched.get(pair.key)
        if watched is None:
            watched = self._watched[pair.key] = _Watched(pair, now, now)
            if len(self._watched) > MAX_KNOWN:
                self._watched.popitem(last=False)
        watched.asked = now
        self._watched.move_to_end(pair.key)
        if watched.due <= now:
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Called again after a failure, it asks about everything again."""
        limit = asyncio.Semaphore(AT_ONCE)
        for each in self._watched.values():
            each.due = min(each.due, self._steady())
        async with Downloader(self._timeout) as downloader, asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                now = self._steady()
                self._forget_idle(now)
                for each in self._watched.values():
                    if each.due <= now:
                        each.due = math.inf
                        group.create_task(self._refresh(each, downloader, limit))
                await self._sleep(now)

    def _forget_idle(self, now: float) -> None:
        for key in [key for key, each in self._watched.items() if now - each.asked > IDLE]:
            del self._watched[key]

    async def _sleep(self, now: float) -> None:
        due = min((each.due for each in self._watched.values()), default=math.inf)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(0.0, due - now), IDLE)):
                await self._wake.wait()

    async def _refresh(self, watched: _Watched, downloader: Downloader, limit: asyncio.Semaphore) -> None:
        pair, held = watched.pair, []
        async with limit:
            for source in self._revocations.sources:
                try:
                    answer = await (self._ocsp if source is Source.OCSP else self._crl)(pair, downloader)
                    self._revocations.learn(pair, answer)
                    self._clock.vouch(answer.produced)
                    held.append(self._lasts(answer))
                except PolicyRefused as error:
                    log.warning("revocation: %s [%s]", error, error.reason)
                    self._revocations.failed(pair, source, error)
        watched.failures = 0 if held else watched.failures + 1
        watched.due = self._steady() + self._delay(watched.failures, held)
        self._wake.set()
        self._learned()

    def _lasts(self, answer: Answer) -> float:
        """Seconds until it runs out; what is revoked stays so."""
        if answer.status is Status.REVOKED:
            return math.inf
        return (answer.fresh_until - self._clock.now()).total_seconds()

    def _delay(self, failures: int, held: Sequence[float]) -> float:
        """Seconds until it is asked again; spread, so that a fleet does not ask together."""
        if held:
            return max(SOONEST, min(self._settings.refresh, 0.8 * min(held))) * random.uniform(0.8, 1.0)
        most = min(RETRY_MOST, self._settings.refresh, RETRY_FIRST * 2 ** min(failures - 1, 10))
        # A platform that comes back is not asked by everybody at once.
        return random.uniform(min(RETRY_LEAST, most), most)

    # --- OCSP

    async def _ocsp(self, pair: Pair, downloader: Downloader) -> Answer:
        configured = self._settings.responder
        urls = [configured] if configured else _responder_urls(pair.certificate)
        return await _first(urls, lambda url: self._ask_responder(url, pair, downloader))

    async def _ask_responder(self, url: str, pair: Pair, downloader: Downloader) -> Answer:
        nonce = secrets.token_bytes(NONCE_SIZE)
        request = make_request(pair, nonce)
        data = await downloader.post(url, request, "application/ocsp-request", MAX_RESPONSE)
        return verify_response(data, pair, self._clock.now(), self._settings.max_age, nonce)

    # --- CRLs

    async def _crl(self, pair: Pair, downloader: Downloader) -> Answer:
        places = [str(place) for place in self._settings.crls] or distribution_urls(pair.certificate)
        files = {str(place) for place in self._settings.crls if isinstance(place, Path)}

        async def look_up(place: str) -> Answer:
            crl = await self._list(place, place in files, pair, downloader)
            return crl.answer(pair)

        # Of the configured ones each may be another authority's.
        return await _first(places, look_up, most=len(self._settings.crls) or URLS_TRIED)

    async def _list(self, place: str, local: bool, pair: Pair, downloader: Downloader) -> VerifiedCrl:
        # Looked up anew after each waiting: one may have come meanwhile, for another certificate.
        key = place, pair.issuer_key
        now = self._clock.now()
        if local:
            data, tag = await asyncio.to_thread(_read, Path(place)), None
        else:
            held = self._crls.get(key)
            try:
                data, tag = await downloader.get(place, held.tag if held else None, MAX_CRL)
            except Unchanged:
                held = self._crls.get(key)
                if held is None:
                    raise PolicyRefused("revocation-unreachable", f"{place[:100]!r}: unchanged") from None
                data, tag = held.data, held.tag
        held = self._crls.get(key)
        if held is not None and held.data == data and now <= held.crl.fresh_until:
            return held.crl
        # In a thread: a long list takes longer than a frame.
        crl = await asyncio.to_thread(verify_crl, data, pair.issuer, now, self._settings.max_age)
        held = self._crls.get(key)
        if held is not None and crl.this_update < held.crl.this_update:
            raise PolicyRefused("crl-replayed", "a CRL older than the one that is known")
        self._crls[key] = _Fetched(data, tag, crl)
        self._crls.move_to_end(key)
        if len(self._crls) > CRLS_KEPT:
            self._crls.popitem(last=False)
        return crl


async def _first(
    places: Sequence[str], ask: Callable[[str], Awaitable[Answer]], most: int = URLS_TRIED
) -> Answer:
    """The first answer of ``places``; where none has one, the error that tells most."""
    errors = []
    for place in places[:most]:
        try:
            return await ask(place)
        except PolicyRefused as error:
            errors.append(error)
    if not errors:
        raise PolicyRefused(
            "revocation-no-source",
            "neither the settings nor the certificate say who could tell",
            "name a responder or a CRL in the settings, or have the certificate name one",
        )
    raise min(errors, key=lambda error: error.reason in ("crl-other-issuer", "crl-scope"))


def _responder_urls(certificate: x509.Certificate) -> list[str]:
    """RFC 5280, 4.2.2.1"""
    return [
        description.access_location.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.AuthorityInformationAccess)
        for description in extension.value
        if description.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(description.access_location, x509.UniformResourceIdentifier)
    ]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CRL + 1)
    except OSError as error:
        raise PolicyRefused("revocation-unreachable", f"{path}: {error.strerror}") from error
