"""Does the encoder encode pictures as large as each stream's?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, failed, ok, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.capture.factory import open_source
from dongled.config.api import StreamSettings

_PATIENCE = 10.0  # seconds


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None or not case.settings.stream:
        return [skipped("no stream is configured")]
    return [await asyncio.to_thread(_encode, stream) for stream in case.settings.stream]


def _encode(stream: StreamSettings) -> Finding:
    from dongled.media.encoder import Vp8Encoder

    source = open_source("testsrc", width=stream.width, height=stream.height, fps=stream.fps)
    try:
        source.start()
        picture = source.read(_PATIENCE)
        if picture is None:
            return failed("the test source gave no picture", "the machine is overloaded", about=stream.id)
        frame, _ = Vp8Encoder(bitrate=stream.bitrate, fps=stream.fps).encode(picture, keyframe=True)
    finally:
        source.close()
    return ok(f"a key frame of {stream.width}x{stream.height} in {len(frame)} bytes", about=stream.id)


CHECK = Check("encoder", "Pictures can be encoded", look)
