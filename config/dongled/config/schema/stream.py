"""Where pictures come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dongled.config.base import FilePath, Id, Input, Sample, Section


class StreamSettings(Section):
    """A picture source and how it is encoded."""

    id: Annotated[Id, Field(description="Name of the stream, unique here."), Sample("camera", active=True)]
    source: Annotated[
        Literal["testsrc", "file", "camera"],
        Field(description="testsrc: a moving test picture; file: a video file; camera: a V4L2 device."),
        Sample("testsrc", active=True),
    ]
    device: Annotated[
        FilePath | None,
        Field(description="For camera: the device, best by a name that survives replugging."),
        Sample("/dev/v4l/by-path/platform-example-usb-0:1:1.0-video-index0"),
    ] = None
    path: Annotated[
        FilePath | None,
        Field(description="For file: the video file."),
        Input(),
        Sample("film.mkv"),
    ] = None
    loop: Annotated[bool, Field(description="For file: start again at its end.")] = True
    width: Annotated[int, Field(description="Pixels, even.", ge=128, le=3840, multiple_of=2)] = 1280
    height: Annotated[int, Field(description="Pixels, even.", ge=96, le=2160, multiple_of=2)] = 720
    fps: Annotated[int, Field(description="Pictures per second.", ge=1, le=60)] = 30
    codec: Annotated[Literal["vp8"], Field(description="Video codec.")] = "vp8"
    bitrate: Annotated[int, Field(description="Bit/s.", ge=50_000, le=50_000_000)] = 2_000_000
