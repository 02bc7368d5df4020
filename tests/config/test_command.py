"""The real command: `dongled config init | check | show`."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from config.files import TEXT, write
from dongled.config.schema.settings import Settings
from dongled.config.template import template


def dongled(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DONGLED_")}
    program = [sys.executable, "-c", "from dongled.agent.cli.main import main; main()", "config"]
    return subprocess.run([*program, *map(str, arguments)], env=clean | env, capture_output=True, text=True)


def test_a_good_configuration_is_valid_and_its_warnings_are_shown(tmp_path: Path) -> None:
    result = dongled("check", "--config", write(tmp_path))
    assert result.returncode == 0
    assert "valid" in result.stdout
    assert "[time-source-system]" in result.stderr


def test_a_bad_one_exits_with_78_and_shows_every_problem(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace("width", "widht").replace("room = 1234", ""))
    result = dongled("check", "--config", path, "--set", "stream.0.fps=0", DONGLED_TRUST__ROTS="[]")
    assert result.returncode == 78
    assert result.stdout == ""
    assert f"{path}: stream.0.widht: unknown key; did you mean width?" in result.stderr
    assert f"{path}: meeting.0.room: is missing" in result.stderr
    assert "flag: stream.0.fps: " in result.stderr
    assert "environment DONGLED_TRUST__ROTS: trust.rots: unknown key; did you mean roots?" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_configuration_exits_with_78_and_says_what_to_do(tmp_path: Path) -> None:
    result = dongled("check", "--instance", "nowhere-to-be-found")
    assert result.returncode == 78
    assert "dongled config init --output /etc/dongled/nowhere-to-be-found.toml" in result.stderr


def test_show_tells_each_value_and_its_layer(tmp_path: Path) -> None:
    path = write(tmp_path)
    result = dongled("show", "--effective", "--json", "--config", path, DONGLED_STREAM__0__FPS="12")
    assert result.returncode == 0
    report = json.loads(result.stdout)
    shown = {entry["key"]: (entry["value"], entry["layer"]) for entry in report["settings"]}
    assert report["file"] == str(path)
    assert shown["stream.0.fps"] == (12, "environment DONGLED_STREAM__0__FPS")
    assert shown["stream.0.bitrate"] == (2_000_000, "default")
    assert shown["token.pin-file"] == (str(tmp_path / "secrets" / "pin"), str(path))
    assert [warning["id"] for warning in report["warnings"]] == ["time-source-system"]
    text = dongled("show", "--config", path).stdout
    assert f'terminal.name = "Gate 7"  # {path}' in text
    assert "default" not in text
    assert "stream.0.bitrate = 2000000  # default" in dongled("show", "--effective", "--config", path).stdout


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    path = write(tmp_path)
    pin = (tmp_path / "secrets" / "pin").read_text().strip()
    plain = secrets.token_hex(8)
    results = [
        dongled("show", "--effective", "--config", path),
        dongled("show", "--effective", "--json", "--config", path),
        dongled("check", "--config", path),
        dongled("show", "--effective", "--config", path, DONGLED_TOKEN__PIN=plain),
        dongled(
            "check",
            "--config",
            write(tmp_path / "other", TEXT.replace("[token]", f'[token]\npin = "{plain}"')),
        ),
    ]
    assert [result.returncode for result in results] == [0, 0, 0, 78, 78]
    for result in results:
        assert pin not in result.stdout + result.stderr
        assert plain not in result.stdout + result.stderr
    assert "use pin-file or pin-credential" in results[-1].stderr


def test_init_writes_once_and_never_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dongled.toml"
    assert dongled("init", "--output", path).returncode == 0
    assert path.read_text() == dongled("init").stdout == template()
    path.write_text("mine")
    result = dongled("init", "--output", path)
    assert result.returncode == 1
    assert "[file-exists]" in result.stderr
    assert path.read_text() == "mine"
    assert "[file-unwritable]" in dongled("init", "--output", tmp_path / "absent" / "x").stderr


def test_what_init_writes_lacks_only_the_files_it_names(tmp_path: Path) -> None:
    path = tmp_path / "dongled.toml"
    path.write_text(template())
    result = dongled("check", "--config", path)
    problems = [line for line in result.stderr.splitlines() if line.startswith("  ")]
    assert result.returncode == 78
    assert problems
    assert all("is not there" in line for line in problems)


def test_the_template_names_every_key_and_its_defaults_are_true() -> None:
    everything = tomllib.loads(re.sub(r"(?m)^#(?=[a-z\[])", "", template()))
    # Choices that exclude each other are all shown; the schema alone takes them.
    settings = Settings.model_validate(everything, by_alias=True, by_name=False)

    def leaves(value: object, key: str = "") -> set[str]:
        if isinstance(value, dict):
            return set().union(*(leaves(inner, f"{key}.{name}") for name, inner in value.items()))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return leaves(value[0], key)
        return {key}

    assert leaves(everything) == leaves(settings.model_dump(mode="json", by_alias=True))
    assert max(map(len, template().splitlines())) <= 112
    assert settings.stream[0].fps == 30
    assert settings.trust.minimum_assurance == "hardware"


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("check", "--help"), ("init", "--help"), ("show", "--help"), ("schema", "--help")],
)
def test_help_needs_no_pydantic(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from dongled.agent.cli.main import main\n"
        f"main(['config', *{arguments!r}], standalone_mode=False)\n"
        "heavy = {'pydantic', 'numpy', 'av', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_set_wants_a_key_and_a_value(tmp_path: Path) -> None:
    result = dongled("check", "--config", write(tmp_path), "--set", "stream.0.fps")
    assert result.returncode == 2
    assert "KEY=VALUE" in result.stderr
