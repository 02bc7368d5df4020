"""Frames that came before their key, kept for a moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

MAX_HELD = 64
"""Frames held at most, of all generations together."""

MAX_HELD_BYTES = 8 * 1024 * 1024

T = TypeVar("T")


# RFC 9605, 4.4.4: "the client MAY buffer the ciphertext and retry decryption once a key ... is received"
class HeldFrames(Generic[T]):
    """Frames under unknown keys, oldest first. ``T`` is the pipeline's own frame.

    Whoever floods it pushes out what was held, and no more: the newest 64 frames stay, up to 8 MiB.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[int, int, T]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def hold(self, kid: int, frame: T, size: int) -> list[T]:
        """Keep ``frame``, of ``size`` bytes; returns what had to go for it, to be counted as dropped."""
        self._frames.append((kid, size, frame))
        self._bytes += size
        dropped = []
        while len(self._frames) > MAX_HELD or self._bytes > MAX_HELD_BYTES:
            _, size, oldest = self._frames.popleft()
            self._bytes -= size
            dropped.append(oldest)
        return dropped

    def release(self, kid: int) -> list[T]:
        """Take out the frames of ``kid``, whose key came, in the order they came."""
        return self._take(lambda held: held == kid)

    def drop(self, below: int | None = None) -> list[T]:
        """Take out the frames whose key will not come: below ``below``, or all of them."""
        return self._take(lambda held: below is None or held < below)

    def _take(self, wanted: Callable[[int], bool]) -> list[T]:
        taken = [frame for kid, _, frame in self._frames if wanted(kid)]
        self._frames = deque(entry for entry in self._frames if not wanted(entry[0]))
        self._bytes = sum(size for _, size, _ in self._frames)
        return taken
