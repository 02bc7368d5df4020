"""Does ICE find a way to the SFU, beside its WebSocket? Then DTLS and SCTP, as a meeting's bus has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, of_error, ok, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.connection import JanusConnection
from dongled.agent.sfu.janus.errors import TEXTROOM
from dongled.agent.sfu.janus.textroom import open_link
from dongled.config.api import ConfigError, MeetingSettings, Settings
from dongled.media.errors import MediaError
from dongled.media.webrtc import BusLink


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None:
        return [skipped("the settings cannot be used")]
    encrypted = [each for each in case.settings.meeting if each.encryption != "plain"]
    if not encrypted:
        return [skipped("no encrypted meeting is configured")]
    return await asyncio.gather(*(_connect(case.settings, meeting) for meeting in encrypted))


async def _connect(settings: Settings, meeting: MeetingSettings) -> Finding:
    """No room is entered, so nobody there notices."""
    try:
        link = BusLink(wiring.ice_settings(settings))
        connection = JanusConnection(wiring.janus_settings(meeting), lambda reason: None)
        try:
            await connection.open()
            await open_link(await connection.attach(TEXTROOM), link)
        finally:
            await link.close()
            await connection.close()
    except (SfuError, ConfigError, MediaError) as error:
        return of_error(error, about=meeting.name)
    return ok("a data channel to the SFU opens", about=meeting.name)


# An SFU that answers late, and a data channel that does not open, each take their time.
CHECK = Check("ice", "ICE connects to the SFU", look, patience=45.0)
