"""`dongled config schema`, by a validator that was not written here."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config.files import TEXT
from dongled.config.json_schema import json_schema
from dongled.config.template import template

VALIDATOR = Draft202012Validator(json_schema())


def paths(text: str) -> set[str]:
    """Where the validator finds something wrong."""
    return {".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(tomllib.loads(text))}


def test_the_command_prints_a_schema_of_its_dialect() -> None:
    program = "from dongled.agent.cli.main import main; main()"
    command = [sys.executable, "-c", program, "config", "schema"]
    printed = subprocess.run(command, capture_output=True, check=True)
    schema = json.loads(printed.stdout)
    Draft202012Validator.check_schema(schema)
    assert schema == json_schema()


def test_it_takes_what_dongled_takes() -> None:
    assert not paths(TEXT)
    assert not paths(template())


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (TEXT.replace("width = 640", "widht = 640"), "stream.0"),
        (TEXT.replace("width = 640", "width = 641"), "stream.0.width"),
        (TEXT.replace("width = 640", 'width = "640"'), "stream.0.width"),
        (TEXT.replace('id = "camera"', 'id = "Camera"'), "stream.0.id"),
        (TEXT.replace("room = 1234\n", ""), "meeting.0"),
        (TEXT.replace("room = 1234", "room = 0"), "meeting.0.room"),
        (TEXT + "[[meeting.sink]]\nkind = 'tape'\n", "meeting.0.sink.0.kind"),
        (TEXT.replace('time-source = "system"', "time-source = 7"), "trust.time-source"),
    ],
)
def test_it_refuses_what_dongled_refuses_in_the_same_place(wrong: str, where: str) -> None:
    assert wrong != TEXT
    assert paths(wrong) == {where}


def test_every_key_says_what_it_is() -> None:
    def silent(schema: dict[str, Any], at: str) -> Iterator[str]:
        for name, inner in schema.get("properties", {}).items():
            table = "$ref" in inner or "$ref" in inner.get("items", {})
            if not table and not inner.get("description"):
                yield f"{at}.{name}"

    schema = json_schema()
    assert not [key for name, part in schema["$defs"].items() for key in silent(part, name)]
    assert '"type": "null"' not in json.dumps(schema)
