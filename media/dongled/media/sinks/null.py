"""A sink that only counts."""

from __future__ import annotations

from dongled.media.api import Picture


class NullSink:
    """``pictures`` so far, and ``size`` of the latest, in pixels."""

    def __init__(self) -> None:
        self.pictures = 0
        self.size: tuple[int, int] | None = None

    def write(self, picture: Picture) -> None:
        self.pictures += 1
        self.size = picture.frame.width, picture.frame.height

    def close(self) -> None:
        pass
