"""A role's next key, beside the one in use until it has taken its place; the token itself says how far it is.

1. ``begin`` generates it, labelled as the next one. The key in use stays what it is.
2. It gets its certificate (``provision``). From here on either of the two works.
3. The configuration pins it.
4. ``finish`` removes the old pair, and only then gives the new one the role's label.

Each can be called again after it was cut short, and what is pinned works before, meanwhile and afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dongled.tokens import checks, describe, provision
from dongled.tokens.api import KeyInfo, KeyPin, KeyPins, KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import PROCESS_LEDGER, PinLedger
from dongled.tokens.opened import Place
from dongled.tokens.session import TokenSession


@dataclass(frozen=True, slots=True)
class Pair:
    """The key that is pinned, and the one that is to follow it, where there is one.

    ``taken_over``: the pinned one was the next, and the rotation wants finishing.
    """

    pinned: KeyInfo
    following: KeyInfo | None
    taken_over: bool


def next_label(role: KeyRole) -> str:
    """The CKA_LABEL of a key that is to follow a role's."""
    return f"{role.value}-next"


async def look(place: Place, role: KeyRole, pin: KeyPin, *, ledger: PinLedger = PROCESS_LEDGER) -> Pair:
    """How far a rotation is. Raises TokenError."""
    async with _opened(place, role, pin, ledger, writable=False) as session:
        return await _pair(session, role)


async def begin(place: Place, role: KeyRole, pin: KeyPin, *, ledger: PinLedger = PROCESS_LEDGER) -> KeyInfo:
    """Generate the key that is to follow the pinned one, unless it is there. Raises TokenError."""
    async with _opened(place, role, pin, ledger, writable=True) as session:
        pair = await _pair(session, role)
        if pair.taken_over:
            raise TokenError(
                "rotation-unfinished",
                f"the pinned {role.value} key was rotated in, and the one before it is not removed yet",
                "`dongled token rotate --finish` first",
            )
        if pair.following is None:
            # A power cut may have left one half of a pair.
            await session.call("remove_labelled", label=next_label(role))
            await provision.make_pair(session, role, next_label(role))
            pair = await _pair(session, role)
        if pair.following is None:
            raise TokenError("token-fault", "the token does not show the key that it made", "try again")
        return pair.following


async def finish(place: Place, role: KeyRole, pin: KeyPin, *, ledger: PinLedger = PROCESS_LEDGER) -> None:
    """Remove what the pinned key has followed, and give it the role's label. Raises TokenError."""
    async with _opened(place, role, pin, ledger, writable=True) as session:
        pair = await _pair(session, role)
        if pair.taken_over:
            # In this order: two keys with the role's label would be none to who goes by labels.
            for old in _labelled(role, await session.found_keys()):
                await session.call("remove", key=old.cka_id)
            await session.call("relabel", key=pin.cka_id, label=role.value)


@asynccontextmanager
async def _opened(
    place: Place, role: KeyRole, pin: KeyPin, ledger: PinLedger, *, writable: bool
) -> AsyncIterator[TokenSession]:
    async with provision.session_of(
        place.module, place.uri, place.pin, frozenset({role}), KeyPins.to(role, pin),
        writable=writable, ledger=ledger,
    ) as session:  # fmt: skip
        if session.quirks.places:
            raise TokenError(
                "rotation-unable",
                f"a card has one place for the {role.value} key, and so none for the next one beside it",
                "prepare a second card for this terminal (`token csr --uuid`), pin its keys, exchange them",
            )
        yield session


def _labelled(role: KeyRole, found: Sequence[describe.FoundKey]) -> list[describe.FoundKey]:
    return [key for key in found if key.label == role.value]


async def _pair(session: TokenSession, role: KeyRole) -> Pair:
    pinned, found = session.keys[role], await session.found_keys()
    if len(_labelled(role, found)) > 1:
        # Of two that are told apart by pins, the other may be somebody else's.
        raise TokenError(
            "rotation-unable",
            f"several keys are labelled {role.value!r}, and the wrong one could be removed",
            "rotate on a token that holds one such key",
        )
    if pinned.label == next_label(role):
        return Pair(pinned, None, taken_over=True)
    if pinned.label != role.value:
        raise TokenError(
            "rotation-unable",
            f"the pinned key is labelled {pinned.label!r}, not {role.value!r}, as rotating goes by",
            f"label it {role.value!r} with the token's own tool",
        )
    # One without its public half was cut short; it has no certificate and is made anew.
    coming = [(key, key.point) for key in found if key.label == next_label(role) and key.point is not None]
    if not coming:
        return Pair(pinned, None, taken_over=False)
    if len(coming) > 1:
        raise TokenError(
            "key-ambiguous",
            f"several keys are labelled {next_label(role)!r}",
            "remove all but one with the token's own tool",
        )
    made, half = coming[0]
    following = KeyPin(made.cka_id, describe.public_key_sha256(half))
    key, point = checks.the_key(role, found, following, session.quirks)
    return Pair(
        pinned, checks.key_info(role, key, point, await session.found_certificates()), taken_over=False
    )
