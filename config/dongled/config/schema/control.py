"""Who may ask and steer the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dongled.config.base import FilePath, Sample, Section

GROUP = r"^[a-z_][a-z0-9_-]{0,31}$"


class ControlSettings(Section):
    """The socket that `dongled status` and the other commands talk to the daemon by."""

    socket: Annotated[FilePath, Field(description="Path of the Unix socket.")] = Path(
        "/run/dongled/control.sock"
    )
    operators: Annotated[
        str | None,
        Field(
            description="Group whose members may have the daemon do something, as root and our own user may.",
            pattern=GROUP,
        ),
        Sample("dongled-operators"),
    ] = None
    group: Annotated[
        str | None,
        Field(description="Group whose members may ask for the status, and no more.", pattern=GROUP),
        Sample("dongled"),
    ] = None
