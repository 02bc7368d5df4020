"""The machine's PC/SC readers, watched without asking a card for anything.

A thread of our own around SCardGetStatusChange (pcsclite.h; PC/SC Workgroup, part 5, section 4.2.7), since
what else watches readers stops for good when pcscd is restarted. A pcscd that is gone has no cards.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import logging
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

log = logging.getLogger(__name__)

LIBRARY = "libpcsclite.so.1"
# Where no pcscd is, it is looked for as often; seconds.
LOOK_AGAIN = 0.5
# How often it is asked; seconds. pcscd could wake us, but says nothing when a card becomes held, and a wait
# that times out just as an event comes can leave libpcsclite reading for ever.
_ASK_EVERY = 0.2
_STOP_WITHIN = 2.0
# A pcscd that says nothing for so long has no cards either; seconds. It answers within a millisecond.
_SILENT_AFTER = 10.0

# pcsclite.h
_SCOPE_SYSTEM = 2
_SUCCESS = 0
_UNKNOWN_READER = 0x80100009
_TIMEOUT = 0x8010000A
_NO_READERS = 0x8010002E
_PRESENT, _EXCLUSIVE, _MUTE = 0x20, 0x80, 0x200
# A name that stands for the list of readers.
_LIST_CHANGES = rb"\\?PnP?\Notification"

Cards = Mapping[str, tuple[int, int]]
"""By reader with a card in it: what tells this insertion from every other one."""


class _ReaderState(ctypes.Structure):
    _fields_ = (
        ("reader", ctypes.c_char_p),
        ("user_data", ctypes.c_void_p),
        ("current", ctypes.c_ulong),
        ("event", ctypes.c_ulong),
        ("atr_length", ctypes.c_ulong),
        ("atr", ctypes.c_ubyte * 33),
    )


class _Failed(Exception):
    """A call of the library did not succeed; the context is of no use any more."""


class Readers:
    """``start`` it on the event loop that asks. Without the library or a pcscd there are no cards."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._name = library
        self._cards: Cards = {}
        self._held: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._known = asyncio.Event()
        self._stopping = threading.Event()
        self._silence: asyncio.TimerHandle | None = None
        self._library: Any = None
        self._thread: threading.Thread | None = None

    @property
    def cards(self) -> Cards:
        return self._cards

    @property
    def held(self) -> frozenset[str]:
        """The readers whose card some program has for itself: no module sees it."""
        return self._held

    def holding(self, name: str) -> str | None:
        """The one reader with a card whose name begins like this, as PKCS#11 cuts names short."""
        if not name:
            return None
        named = [reader for reader in self._cards if reader.startswith(name)]
        if name in named:
            return name
        return named[0] if len(named) == 1 else None

    async def start(self) -> None:
        """Returns once it is known which cards are in. A second time it does nothing."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="readers", daemon=True)
            self._silence = loop.call_later(_SILENT_AFTER, self._fell_silent)
            self._thread.start()
        await self._known.wait()

    def change(self) -> Coroutine[Any, Any, object]:
        """Wait until a card, a reader or pcscd comes or goes, or a card's being held; from this call on."""
        return self._changed.wait()

    async def close(self) -> None:
        """The thread ends within 0.2 s; one that a hanging pcscd keeps is left behind."""
        self._stopping.set()
        if self._silence is not None:
            self._silence.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_WITHIN)

    def _heard(self, cards: Cards, held: frozenset[str]) -> None:
        if self._stopping.is_set():
            return
        if self._silence is not None:
            self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(_SILENT_AFTER, self._fell_silent)
        self._publish(cards, held)

    def _fell_silent(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            return
        log.warning("pcscd has not answered for %.0f s: its cards count as pulled", _SILENT_AFTER)
        self._publish({})

    def _publish(self, cards: Cards, held: frozenset[str] = frozenset()) -> None:
        self._known.set()
        if (cards, held) != (self._cards, self._held):
            self._cards, self._held = cards, held
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    # --- in the thread --------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        def tell(cards: Cards, held: frozenset[str] = frozenset()) -> None:
            if not self._stopping.is_set():
                loop.call_soon_threadsafe(self._heard, cards, held)

        try:
            self._library = ctypes.CDLL(self._name)
        except OSError as error:
            log.warning("no PC/SC here, so no card's removal is seen by itself: %s", error)
            tell({})
            return
        for service in itertools.count():
            context = ctypes.c_long()
            scope = ctypes.c_ulong(_SCOPE_SYSTEM)
            if self._library.SCardEstablishContext(scope, None, None, ctypes.byref(context)) == _SUCCESS:
                try:
                    self._follow(context, service, tell)
                except _Failed as failed:
                    log.debug("PC/SC: %s", failed)
                self._library.SCardReleaseContext(context)
            tell({})
            if self._stopping.wait(LOOK_AGAIN):
                return

    def _follow(self, context: ctypes.c_long, service: int, tell: Any) -> None:
        while not self._stopping.is_set():
            names = [_LIST_CHANGES, *self._readers(context)]
            states = (_ReaderState * len(names))(*(_ReaderState(reader=name) for name in names))
            if self._ask(context, states):
                tell(_cards(states[1:], service), _held(states[1:]))
            self._stopping.wait(_ASK_EVERY)

    def _readers(self, context: ctypes.c_long) -> list[bytes]:
        # Room for all that pcscd serves: 16 readers with names of up to 128 bytes.
        names = ctypes.create_string_buffer(16 * 128 + 1)
        size = ctypes.c_ulong(len(names))
        code = self._library.SCardListReaders(context, None, names, ctypes.byref(size)) & 0xFFFFFFFF
        if code == _NO_READERS:
            return []
        if code != _SUCCESS:
            raise _Failed(f"SCardListReaders: {code:#x}")
        return [name for name in names.raw[: size.value].split(b"\0") if name]

    def _ask(self, context: ctypes.c_long, states: Any) -> bool:
        """False where a reader has gone since it was listed: the others' cards are no less there."""
        at_once = ctypes.c_ulong(0)
        code = self._library.SCardGetStatusChange(context, at_once, states, len(states)) & 0xFFFFFFFF
        if code not in (_SUCCESS, _TIMEOUT, _UNKNOWN_READER):
            raise _Failed(f"SCardGetStatusChange: {code:#x}")
        return bool(code != _UNKNOWN_READER)


def _cards(states: list[_ReaderState], service: int) -> Cards:
    """pcscd counts insertions and removals in the upper half of a state, and begins anew when restarted."""
    return {
        state.reader.decode("utf-8", "replace"): (service, state.event >> 16)
        for state in states
        if state.event & _PRESENT and not state.event & _MUTE
    }


def _held(states: list[_ReaderState]) -> frozenset[str]:
    return frozenset(state.reader.decode("utf-8", "replace") for state in states if state.event & _EXCLUSIVE)
