"""Has each camera a format that can be used, and the size that is asked for? Does each file play?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, failed, of_error, ok, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.capture.errors import CaptureError
from dongled.capture.factory import open_source
from dongled.capture.formats import formats
from dongled.config.api import StreamSettings
from dongled.media.errors import MediaError

_PATIENCE = 5.0  # seconds


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None or not case.settings.stream:
        return [skipped("no stream is configured")]
    absent = {} if case.daemon is None else {
        stream.stream: stream.absent for meeting in case.daemon.meetings for stream in meeting.sending
    }  # fmt: skip
    return [
        _told(stream, absent[stream.id]) if stream.id in absent else await asyncio.to_thread(_look_at, stream)
        for stream in case.settings.stream
    ]


def _told(stream: StreamSettings, absent: str) -> Finding:
    """Of a source that the daemon has open."""
    if absent:
        return failed(f"no pictures: {absent}", "see to the camera and its cable", stream.id)
    return ok("the daemon has it open", stream.id)


def _look_at(stream: StreamSettings) -> Finding:
    try:
        if stream.source == "camera" and stream.device is not None:
            return _camera(stream)
        return _picture(stream)
    except (CaptureError, MediaError) as error:
        return of_error(error, stream.id)


def _camera(stream: StreamSettings) -> Finding:
    assert stream.device is not None
    found = formats(stream.device)
    usable = [each for each in found if each.supported]
    if not usable:
        names = ", ".join(each.fourcc for each in found) or "nothing"
        return failed(
            f"{stream.device} offers {names}, and none of it can be used", "another camera", stream.id
        )
    names = ", ".join(each.fourcc for each in usable)
    size = f"{stream.width}x{stream.height}"
    if any(each.has(stream.width, stream.height) for each in usable):
        return ok(f"{stream.device} offers {names}, in {size} too", stream.id)
    sizes = sorted({size for each in usable for size in each.sizes})
    offered = ", ".join(f"{width}x{height}" for width, height in sizes) or "sizes that it does not tell"
    return ok(f"{stream.device} offers {names}, and {size} is scaled from: {offered}", stream.id)


def _picture(stream: StreamSettings) -> Finding:
    source = open_source(
        stream.source,
        width=stream.width,
        height=stream.height,
        fps=stream.fps,
        path=stream.path,
        loop=stream.loop,
    )
    try:
        source.start()
        if source.read(_PATIENCE) is None:
            return failed(f"no picture within {_PATIENCE:g} s", "is the file a video, and whole?", stream.id)
    finally:
        source.close()
    return ok("it gives pictures", stream.id)


CHECK = Check("sources", "Cameras and files give pictures", look)
