"""Whose touch of a FIDO2 key is wanted, and to whom it is shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dongled.config.base import FilePath, Input, Sample, Section, StreamOrAny, TerminalOrAny
from dongled.config.schema.samples import UUID


class PresenceSettings(Section):
    """Somebody's touch of a FIDO2 key, required for keys of our streams or shown to get others'."""

    credentials: Annotated[
        tuple[FilePath, ...],
        Field(description="Files that say whose touch counts; `dongled presence register` makes them."),
        Input(),
        Sample(["presence.json"]),
    ] = ()
    require_for: Annotated[
        tuple[StreamOrAny, ...],
        Field(
            description="Streams of ours whose keys go only to terminals where somebody touched a key; "
            "`*`: all, private ones too."
        ),
        Sample(["camera"]),
    ] = ()
    verify: Annotated[
        bool,
        Field(description="Whether the key has to know who touched it, by finger or PIN."),
    ] = False
    lasts: Annotated[
        int,
        Field(description="Seconds for which a touch counts, for one session.", ge=60, le=86_400),
    ] = 28_800
    show_to: Annotated[
        tuple[TerminalOrAny, ...],
        Field(description="Publishers for which somebody here is asked to touch a key; `*`: all."),
        Sample([UUID]),
    ] = ()
