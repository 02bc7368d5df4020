"""conf.d beside the configuration: over the file, below the environment, each by the order of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.files import write
from dongled.config.api import ConfigError, Loaded, load_layers


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    return write(tmp_path)


def add(config: Path, name: str, text: str) -> Path:
    path = config.parent / "conf.d" / name
    path.write_text(text)
    return path


def layers(loaded: Loaded) -> dict[str, str]:
    return {value.key: value.layer for value in loaded.values}


def test_later_names_win_and_the_environment_over_all(config: Path) -> None:
    first = add(config, "10-site.toml", "[trust]\nrevocation-refresh = 60\nrevocation-max-age = 600\n")
    second = add(config, "20-lab.toml", "[trust]\nrevocation-refresh = 30\nminimum-assurance = 'software'\n")
    loaded = load_layers(config, {"DONGLED_TRUST__MINIMUM_ASSURANCE": "hardware"}, {})
    trust = loaded.settings.trust
    assert (trust.revocation_refresh, trust.revocation_max_age, trust.minimum_assurance) == (
        30,
        600,
        "hardware",
    )
    assert trust.allow_viewers, "what no drop-in names stays"
    assert loaded.drop_ins == (first, second)
    told = layers(loaded)
    assert told["trust.revocation-max-age"] == str(first)
    assert told["trust.revocation-refresh"] == str(second)
    assert told["trust.minimum-assurance"] == "environment DONGLED_TRUST__MINIMUM_ASSURANCE"


def test_named_tables_are_found_by_name_and_new_ones_added(config: Path) -> None:
    path = add(
        config,
        "a.toml",
        '[[stream]]\nid = "thermal"\nsource = "testsrc"\n\n[[stream]]\nid = "camera"\nfps = 5\n\n'
        '[[meeting]]\nname = "lobby"\npublish = ["camera", "thermal"]\nsfu.ca-file = "../root.pem"\n',
    )
    (config.parent.parent / "root.pem").touch()
    loaded = load_layers(config, {}, {})
    camera, thermal = loaded.settings.stream
    assert (camera.id, camera.fps, camera.width) == ("camera", 5, 640)
    assert thermal.id == "thermal"
    (meeting,) = loaded.settings.meeting
    assert (meeting.publish, meeting.room) == (("camera", "thermal"), 1234)
    # Relative to the configuration file, wherever it is written.
    assert meeting.sfu.ca_file == config.parent / "../root.pem"
    assert meeting.sfu.url == "wss://sfu.example.com/janus"
    told = layers(loaded)
    assert (told["stream.0.fps"], told["stream.0.width"]) == (str(path), str(config))


def test_other_lists_are_replaced_as_a_whole(config: Path) -> None:
    add(config, "a.toml", "[trust]\nallow-viewers = []\n")
    assert load_layers(config, {}, {}).settings.trust.allow_viewers == ()


def test_what_is_no_drop_in_is_left_alone(config: Path) -> None:
    for name in ("a.toml~", ".a.toml", "README", "a.toml.dpkg-old"):
        add(config, name, "this is no TOML")
    assert load_layers(config, {}, {}).drop_ins == ()


def test_a_mistake_is_told_with_its_drop_in_and_its_table(config: Path) -> None:
    path = add(config, "a.toml", '[[stream]]\nid = "thermal"\nsource = "testsrc"\nfps = 1000\n')
    with pytest.raises(ConfigError) as wrong:
        load_layers(config, {}, {})
    (problem,) = wrong.value.problems
    assert (problem.where, problem.key, problem.table) == (str(path), "stream.1.fps", "[[stream]] thermal")
    assert f"{path}: stream.1.fps ([[stream]] thermal): " in str(wrong.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[[stream]]\nid = "x"\nsource = "testsrc"\n[[stream]]\nid = "x"\nfps = 7\n', "stream.1.id"),
        ('[[stream]]\nsource = "testsrc"\n', "stream.1.id"),
        ('[[stream]]\nid = ["camera"]\nsource = "testsrc"\n', "stream.1.id"),
        ("stream = 7\n", "stream"),
        ("stream = [7]\n", "stream.1"),
    ],
)
def test_a_table_without_a_name_of_its_own_is_refused(config: Path, text: str, key: str) -> None:
    path = add(config, "a.toml", text)
    with pytest.raises(ConfigError) as wrong:
        load_layers(config, {}, {})
    assert (str(path), key) in {(problem.where, problem.key) for problem in wrong.value.problems}


def test_a_line_is_named_that_is_no_toml(config: Path) -> None:
    path = add(config, "a.toml", "[trust]\nroots = [\n")
    with pytest.raises(ConfigError) as wrong:
        load_layers(config, {}, {})
    assert (wrong.value.reason, str(path) in str(wrong.value)) == ("config-syntax", True)
