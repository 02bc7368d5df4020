"""Does each meeting's SFU answer, has it the plugins that a meeting needs, and the room?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, of_error, ok, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.connection import JanusConnection
from dongled.agent.sfu.janus.errors import TEXTROOM, VIDEOROOM
from dongled.agent.sfu.janus.rooms import find
from dongled.config.api import ConfigError, MeetingSettings


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None or not case.settings.meeting:
        return [skipped("no meeting is configured")]
    return await asyncio.gather(*map(_ask, case.settings.meeting))


async def _ask(meeting: MeetingSettings) -> Finding:
    plugins = [VIDEOROOM] if meeting.encryption == "plain" else [VIDEOROOM, TEXTROOM]
    try:
        settings = wiring.janus_settings(meeting)
        connection = JanusConnection(settings, lambda reason: None)
        try:
            await connection.open()
            there = [await find(await connection.attach(plugin), settings) for plugin in plugins]
        finally:
            await connection.close()
    except (SfuError, ConfigError) as error:
        return of_error(error, about=meeting.name)
    names = " and ".join(plugin.rpartition(".")[2] for plugin in plugins)
    room = "the room is there" if all(exists for _, exists in there) else "the room will be made"
    return ok(f"it answers, has {names}, and {room}", about=meeting.name)


CHECK = Check("sfu", "The SFU answers, and has the room", look, patience=30.0)
