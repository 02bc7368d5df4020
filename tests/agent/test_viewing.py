"""Where `dongled view` writes: to the file that was named, and what cannot be is said before it joins."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from dongled.agent.errors import AgentError
from dongled.agent.viewing import ViewSinks
from dongled.media.errors import MediaError
from support.frames import encoded_vp8


def view(output: str | None = None, record: Path | None = None) -> ViewSinks:
    return ViewSinks(output, record, None, None, None)


def test_the_output_is_the_file_that_was_named_and_nobody_elses(tmp_path: Path) -> None:
    sinks = view(output=str(tmp_path / "live.mkv"))
    # Whatever is opened next must not get its descriptor: the video would go there.
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    (live,) = sinks.make("terminal", "camera").encoded
    for number, frame in enumerate(encoded_vp8()):
        live.write(frame, number / 30, number == 0)
    live.close()
    os.close(other)
    # EBML, RFC 8794, section 11.2.1: what Matroska begins with.
    assert (tmp_path / "live.mkv").read_bytes().startswith(b"\x1a\x45\xdf\xa3")
    assert (tmp_path / "live.mkv").stat().st_mode & 0o077 == 0
    assert (tmp_path / "other").read_bytes() == b""


def test_what_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as nowhere:
        view(output=str(tmp_path / "no" / "where"))
    assert nowhere.value.reason == "output-failed"
    (tmp_path / "there.mkv").touch()
    with pytest.raises(MediaError) as there:
        view(record=tmp_path / "there.mkv")
    assert there.value.reason == "output-exists"
    ours, theirs = pty.openpty()
    with pytest.raises(MediaError) as terminal:
        view(output=os.ttyname(theirs))
    assert terminal.value.reason == "output-is-terminal"
    os.close(ours)
    os.close(theirs)
