"""Finding, making and entering a room: what VideoRoom and TextRoom do alike.

A room's id is a number or a string, as each plugin's ``string_ids`` says: false (the default) takes
positive integers only, true strings only; the wrong one is refused with error 430 (VideoRoom) or 414
(TextRoom). A configuration writes the room as text, so the plugin is asked with ``exists``: a whole
number without leading zeros is tried as a number first, and as a string when that is refused. Any other
name has one form only.
"""

from __future__ import annotations

import secrets
from typing import Any

from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus import wire
from dongled.agent.sfu.janus.connection import Handle
from dongled.agent.sfu.janus.settings import JanusSettings


async def find_or_create(handle: Handle, settings: JanusSettings, **properties: Any) -> wire.JanusId:
    """The id of the settings' room, which now exists. Raises SfuError."""
    room, exists = await find(handle, settings)
    if exists:
        return room
    body: dict[str, Any] = {
        "request": "create",
        "room": room,
        "permanent": False,
        "is_private": True,
        # Without one, whoever reaches the SFU may edit and destroy the room.
        "secret": secrets.token_urlsafe(24),
        **properties,
    }
    try:
        await handle.request(with_pin(body, settings))
    except SfuError as error:
        if error.reason in ("element-missing", "room-unauthorized"):
            raise SfuError(
                "create-refused",
                f"the SFU lets only its administrator make a {handle.kind}",
                "make it on the SFU (Janus's admin_key is set there)",
            ) from None
        # Several terminals that start together race for it.
        if error.reason != "room-exists":
            raise
    return room


async def find(handle: Handle, settings: JanusSettings) -> tuple[wire.JanusId, bool]:
    """The id of the settings' room, and whether it is there. Raises SfuError where it is to be and is not."""
    room, exists = await _find(handle, settings.room)
    if not exists and not settings.create:
        raise SfuError(
            "no-such-room",
            f"the SFU has no {handle.kind} {settings.room!r}",
            "set `create` so that it is made when it is missing, or make it on the SFU",
        )
    return room, exists


async def _find(handle: Handle, name: str) -> tuple[wire.JanusId, bool]:
    forms: list[wire.JanusId] = [name]
    if name.isdigit() and name == str(int(name)) and 0 < int(name) < 1 << 63:
        forms.insert(0, int(name))
    for form in forms:
        try:
            answer = await handle.request({"request": "exists", "room": form})
        except SfuError as error:
            if error.reason != "element-type":
                raise
        else:
            return form, wire.boolean(answer.data, "exists", False)
    raise SfuError(
        "room-name-type",
        f"this Janus names rooms by number, and {name!r} is none",
        "give the room a number, or set string_ids = true in Janus's VideoRoom and TextRoom configuration",
    )


def with_pin(body: dict[str, Any], settings: JanusSettings) -> dict[str, Any]:
    """``body`` with the room's PIN, if there is one."""
    return body if settings.room_pin is None else {**body, "pin": settings.room_pin}


def join_error(error: SfuError, settings: JanusSettings) -> SfuError:
    """What a refused ``join`` means: of what Janus demands, the PIN alone may have been left out."""
    if error.reason == "element-missing" and settings.room_pin is None:
        return SfuError("room-pin-missing", "the room on the SFU has a PIN", "configure the room's PIN")
    return error
