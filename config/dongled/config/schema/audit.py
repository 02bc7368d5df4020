"""What is recorded of who was let in and who was not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dongled.config.base import FilePath, Sample, Section


class AuditSettings(Section):
    """A log of who was granted what and why, and who was refused (docs/authorization.md)."""

    enabled: Annotated[bool, Field(description="Whether it is written.")] = True
    directory: Annotated[
        FilePath | None,
        Field(description="Directory for it; without it, state.directory."),
        Sample("/var/log/dongled"),
    ] = None
    required: Annotated[
        bool,
        Field(description="Whether nothing may be granted while it cannot be written, as on a full disk."),
    ] = False
    max_size: Annotated[
        int,
        Field(description="Bytes of one file, after which the next is begun.", ge=65_536, le=1 << 30),
    ] = 1 << 20
    max_files: Annotated[
        int, Field(description="How many files are kept; then the oldest goes.", ge=2, le=10_000)
    ] = 16
