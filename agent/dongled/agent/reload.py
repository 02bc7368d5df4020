"""What of a new configuration takes effect at once, and what only after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dongled.agent.sfu.janus.room import JanusSettings
from dongled.config.api import MeetingSettings, Settings, StreamSettings
from dongled.media.webrtc import IceSettings

LIVE = frozenset({"stream", "meeting", "ice"})
LIVE_TRUST = frozenset({"roots", "minimum_assurance", "allow_viewers", "allow_publishers"})


@dataclass(frozen=True, slots=True)
class Basis:
    """All that a meeting rests on, secrets too: one whose basis stays is left alone."""

    meeting: MeetingSettings
    streams: tuple[StreamSettings, ...]
    private: tuple[StreamSettings, ...]
    room: JanusSettings = field(repr=False)
    ice: IceSettings = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """``settings`` are those to go on with; ``restart`` names the keys, dotted, that stay as they were."""

    settings: Settings
    restart: tuple[str, ...]


def plan(running: Settings, new: Settings) -> Plan:
    """Take from ``new`` what a running daemon can change; what is not known to be such it cannot."""
    kept = {name: getattr(running, name) for name in type(new).model_fields if name not in LIVE}
    live = {name: getattr(new.trust, name) for name in LIVE_TRUST}
    kept["trust"] = running.trust.model_copy(update=live)
    settings = new.model_copy(update=kept)
    wanted = new.model_dump(by_alias=True)
    return Plan(settings, tuple(sorted(_differing(settings.model_dump(by_alias=True), wanted))))


def _differing(running: Any, wanted: Any, at: str = "") -> Iterator[str]:
    if isinstance(running, dict) and isinstance(wanted, dict):
        for name in running.keys() | wanted.keys():
            inner = f"{at}.{name}" if at else name
            yield from _differing(running.get(name), wanted.get(name), inner)
    elif running != wanted:
        yield at
