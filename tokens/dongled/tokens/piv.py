"""A PIV card's PIN, PUK and management key: changed and unblocked, through no PKCS#11 module.

NIST SP 800-73-4, part 2, 3.2 (https://doi.org/10.6028/NIST.SP.800-73-4); the management key's change is
Yubico's (https://developers.yubico.com/PIV/Introduction/Yubico_extensions.html). What is given is tried once,
by the ledger of PINs, and the card is nobody else's meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TypeVar

from dongled.tokens import checks, describe
from dongled.tokens.broker import Broker
from dongled.tokens.contact import OK, Contact, exchange, readers
from dongled.tokens.describe import FoundToken
from dongled.tokens.errors import TokenError
from dongled.tokens.failures import ModuleFault
from dongled.tokens.ledger import PROCESS_LEDGER, PinLedger
from dongled.tokens.pin import Pin, PinSource
from dongled.tokens.piv_management import replace_key
from dongled.tokens.uri import parse_token

T = TypeVar("T")

_AID = bytes.fromhex("A000000308")
_SELECT = bytes.fromhex("00A40400")
_VERIFY, _CHANGE, _UNBLOCK = 0x20, 0x24, 0x2C
_LEAST, _LENGTH, _PADDING = 6, 8, b"\xff"
_BLOCKED, _WRONG = 0x6983, 0x63C
# The module's worker has ended; pcscd may take a moment to notice. Seconds.
_FREE_WITHIN = 2.0
_ASK_EVERY = 0.05


class Reference(IntEnum):
    """What is counted: SP 800-73-4, part 2, table 5."""

    PIN = 0x80
    PUK = 0x81


async def change(
    reference: Reference,
    module: str,
    uri: str,
    old: PinSource,
    new: PinSource,
    *,
    ledger: PinLedger = PROCESS_LEDGER,
) -> str:
    """Set another PIN, or PUK; the card's serial number. Raises TokenError."""
    token = await _card(module, uri)
    await _judged(token, _CHANGE, reference, reference, old, new, ledger)
    return token.info.serial


async def unblock(
    module: str, uri: str, puk: PinSource, new: PinSource, *, ledger: PinLedger = PROCESS_LEDGER
) -> str:
    """Set another PIN by the PUK, blocked or not; the card's serial number. Raises TokenError."""
    token = await _card(module, uri)
    await _judged(token, _UNBLOCK, Reference.PUK, Reference.PIN, puk, new, ledger)
    return token.info.serial


async def change_management_key(module: str, uri: str, old: PinSource, new: PinSource) -> str:
    """Set another management key, of the same algorithm; the card's serial number. Raises TokenError.

    Both are hexadecimal digits. A card counts no wrong ones.
    """
    token = await _card(module, uri)
    keys = [await asyncio.to_thread(source.read) for source in (old, new)]
    await asyncio.to_thread(_at, token, lambda card: replace_key(card.transmit, keys[0], keys[1]))
    return token.info.serial


async def _card(module: str, uri: str) -> FoundToken:
    """Where the one PIV card is that the URI names, whatever its PIN's state."""
    broker = Broker(module)
    try:
        found = describe.tokens(await broker.call("tokens"))
    finally:
        await broker.close()
    token = checks.named_token(parse_token(uri), found)
    if not token.quirks.places:
        raise TokenError(
            "token-unable",
            "this is done here for PIV cards alone",
            "take the token's own tool: softhsm2-util, tpm2_ptool, pkcs11-tool",
        )
    return token


async def _judged(
    token: FoundToken,
    instruction: int,
    known: Reference,
    target: Reference,
    old: PinSource,
    new: PinSource,
    ledger: PinLedger,
) -> None:
    """One command with what is known and what is new, which the card judges, and counts."""
    serial = token.info.serial
    wanted = _padded(await asyncio.to_thread(new.read))
    attended = old.attended
    version = await asyncio.to_thread(old.version)
    await ledger.check(serial, version, old.description)
    given = _padded(await asyncio.to_thread(old.read))

    def work(card: Contact) -> None:
        if known is Reference.PIN and not attended and _tries_left(card) == 1:
            raise TokenError(
                "pin-final-try",
                "one more wrong PIN locks the card, so none is tried from a file",
                "be sure of the PIN and leave --pin-file out, to be asked for it",
            )
        _, status = exchange(card.transmit, bytes((0, instruction, 0, target)), given + wanted)
        _require(status, known)

    try:
        async with ledger.attempt(serial, version, old.description):
            await asyncio.to_thread(_at, token, work)
    except ModuleFault as fault:
        if known is Reference.PUK and fault.reason in _OF_PUK:
            raise TokenError(*_OF_PUK[fault.reason]) from None
        raise


# In place of what the same means of a PIN.
_OF_PUK = {
    "pin-wrong": (
        "puk-wrong",
        "the card refused the PUK",
        "find the right one before you try again: after a few wrong ones nothing unblocks the card",
    ),
    "pin-locked": ("puk-locked", "the PUK is locked too", "the card has to be reset, which erases its keys"),
}


def _require(status: int, known: Reference) -> None:
    if status >> 4 == _WRONG:
        # A card that has just used up the last one says so by a count of zero.
        raise ModuleFault("PinLocked" if status == _WRONG << 4 else "PinIncorrect", "")
    if status == _BLOCKED:
        raise ModuleFault("PinLocked", "")
    if status != OK:
        raise TokenError(
            "pin-weak",
            f"the card does not take the new value ({status:04X})",
            f"the {known.name} that it has is unchanged; choose another new one, of six to eight digits",
        )


def _tries_left(card: Contact) -> int | None:
    """Asked without trying any (3.2.1); None where the card does not say."""
    _, status = exchange(card.transmit, bytes((0, _VERIFY, 0, Reference.PIN)))
    return status & 0xF if status >> 4 == _WRONG else None


def _padded(pin: Pin) -> bytes:
    """SP 800-73-4, part 1, 2.4.3: six to eight digits, filled up to eight bytes."""
    digits = pin.reveal().encode()
    if not _LEAST <= len(digits) <= _LENGTH or not digits.isdigit():
        raise TokenError(
            "pin-malformed", "PIN and PUK of a PIV card are six to eight digits", "choose one like that"
        )
    return digits.ljust(_LENGTH, _PADDING)


def _at(token: FoundToken, work: Callable[[Contact], T]) -> T:
    """In the card's PIV application. Blocks. Raises TokenError."""
    try:
        with _held(token.names.get("slot-description", "").encode()) as card:
            _, status = exchange(card.transmit, _SELECT, _AID)
            if status != OK:
                raise TokenError("token-unknown", "the card has no PIV application", "insert another one")
            return work(card)
    except OSError as error:
        # What the card did with a command that it did not answer, nobody knows.
        raise ModuleFault("DeviceError", str(error)) from None


@contextmanager
def _held(name: bytes) -> Iterator[Contact]:
    with readers() as (library, context, names):
        fitting = [reader for reader in names if reader.startswith(name)]
        if name in fitting:
            fitting = [name]
        if len(fitting) != 1:
            raise TokenError("token-absent", "the card's reader is gone", "insert it again")
        end = time.monotonic() + _FREE_WITHIN
        while True:
            try:
                card = Contact(library, context, fitting[0])
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise TokenError(
                        "token-busy",
                        f"another program uses the card ({error})",
                        "stop the daemon, or close the program, and try again",
                    ) from None
                time.sleep(_ASK_EVERY)
        try:
            yield card
        finally:
            card.close()
