"""Does each meeting's SFU answer, and has it the plugins that a meeting needs?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, of_error, ok, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.connection import JanusConnection
from dongled.agent.sfu.janus.errors import TEXTROOM, VIDEOROOM
from dongled.config.api import ConfigError, MeetingSettings


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None or not case.settings.meeting:
        return [skipped("no meeting is configured")]
    return [await _ask(meeting) for meeting in case.settings.meeting]


async def _ask(meeting: MeetingSettings) -> Finding:
    plugins = [VIDEOROOM] if meeting.encryption == "plain" else [VIDEOROOM, TEXTROOM]
    try:
        connection = JanusConnection(wiring.janus_settings(meeting), lambda reason: None)
        try:
            await connection.open()
            for plugin in plugins:
                await connection.attach(plugin)
        finally:
            await connection.close()
    except (SfuError, ConfigError) as error:
        return of_error(error, about=meeting.name)
    names = " and ".join(plugin.rpartition(".")[2] for plugin in plugins)
    return ok(f"it answers, and has {names}", about=meeting.name)


CHECK = Check("sfu", "The SFU answers", look)
