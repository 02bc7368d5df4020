"""Who this terminal is, and where it keeps what it must not forget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dongled.config.base import FilePath, Name, Section


class TerminalSettings(Section):
    """Who this terminal says it is. Others trust its certificate, not this."""

    name: Annotated[Name, Field(description="Shown to other terminals, and to the SFU.")] = "dongled"


class StateSettings(Section):
    """What is kept over a restart: the latest time known to have passed, and how PINs fared. No secret is."""

    directory: Annotated[FilePath, Field(description="Directory for it, made if it is not there.")] = Path(
        "/var/lib/dongled"
    )
