"""Whose turn it is at the token: beacons before announcements before grants, and peers in turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from dongled.tokens.api import Rank
from dongled.tokens.errors import TokenError

T = TypeVar("T")

# Operations that may wait on behalf of one peer. It needs one a round in each meeting.
QUOTA = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody waits. ``peer`` is on whose behalf, empty for this terminal itself."""

    rank: Rank
    peer: str = ""


class Turns(Generic[T]):
    """What waits for a token: by rank, within a rank peer by peer in turn, of one peer in order.

    So a peer that asks much delays another by one operation, and a beacon by what is being done already.
    """

    def __init__(self) -> None:
        self._waiting: dict[Rank, OrderedDict[str, deque[T]]] = {rank: OrderedDict() for rank in Rank}
        self._served = ""
        self._some = asyncio.Event()

    def put(self, item: T, place: Place) -> None:
        """Raises TokenError ``token-quota`` when as much waits for this peer as may."""
        peers = self._waiting[place.rank]
        queue = peers.get(place.peer, ())
        if place.peer and len(queue) >= QUOTA:
            raise TokenError(
                "token-quota",
                f"{len(queue)} operations wait for the token on behalf of {place.peer}",
                "it asks more than a terminal has to; what is still needed is asked for again",
            )
        peers.setdefault(place.peer, deque()).append(item)
        self._some.set()

    async def next(self) -> T:
        """Wait for something to do, and take what comes first."""
        while (item := self.take()) is None:
            self._some.clear()
            await self._some.wait()
        return item

    def take(self) -> T | None:
        """Take what comes first, None when nothing waits."""
        for peers in self._waiting.values():
            # Behind those, too, who came while it was served.
            if self._served in peers:
                peers.move_to_end(self._served)
            for peer, queue in peers.items():
                self._served, item = peer, queue.popleft()
                if not queue:
                    del peers[peer]
                return item
        return None

    def leave(self, item: T, place: Place) -> None:
        """Take it out again, unless its turn has come."""
        peers = self._waiting[place.rank]
        queue = peers.get(place.peer)
        if queue is not None and item in queue:
            queue.remove(item)
            if not queue:
                del peers[place.peer]

    def drain(self) -> list[T]:
        """Take out all that waits."""
        items = [item for peers in self._waiting.values() for queue in peers.values() for item in queue]
        for peers in self._waiting.values():
            peers.clear()
        return items
