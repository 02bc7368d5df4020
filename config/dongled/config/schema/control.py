"""Who may ask and steer the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dongled.config.base import FilePath, Sample, Section


class ControlSettings(Section):
    """The socket that `dongled status` talks to."""

    socket: Annotated[FilePath, Field(description="Path of the Unix socket.")] = Path(
        "/run/dongled/control.sock"
    )
    group: Annotated[
        str | None,
        Field(
            description="Group that may connect, beside root and our own user.",
            pattern=r"^[a-z_][a-z0-9_-]{0,31}$",
        ),
        Sample("dongled"),
    ] = None
