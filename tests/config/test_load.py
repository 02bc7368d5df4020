"""The layers, each over the one below, and every problem told at once in its place."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.files import TEXT, VIEWER, write
from dongled.config.api import ConfigError, Credential, Settings, find_socket, load, load_layers


def problems(text: str, directory: Path, env: dict[str, str] | None = None) -> dict[str, str]:
    """Text of each problem by its dotted key; the error tells them all, and exits with 78."""
    with pytest.raises(ConfigError) as raised:
        load(write(directory, text), env or {}, {})
    error = raised.value
    assert (error.reason, error.exit_code) == ("config-invalid", 78)
    assert error.hint
    for problem in error.problems:
        assert str(problem) in str(error)
    found: dict[str, str] = {}
    for problem in error.problems:
        found[problem.key] = "; ".join(filter(None, (found.get(problem.key), problem.text)))
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        "[[stream]]\nid = 7\n",
        "[control]\nsocket = 'run/control.sock'\ncolour = 'blue'\n",
        "colour = 'blue'\n[control]\nsocket = 'run/control.sock'\n[token]\n",
    ],
)
def test_the_daemon_is_found_while_the_settings_are_wrong(wrong: str, tmp_path: Path) -> None:
    """It may run on with what it has, and who looks for what is wrong has to reach it."""
    path = tmp_path / "dongled.toml"
    path.write_text(wrong)
    socket = tmp_path / "run/control.sock"
    env = {} if "socket" in wrong else {"DONGLED_CONTROL__SOCKET": str(socket)}
    # Where nobody can be asked the mistake is what is told.
    with pytest.raises(ConfigError) as refused:
        find_socket(path, env, {})
    assert refused.value.reason == "config-invalid"
    socket.parent.mkdir()
    socket.touch()
    assert find_socket(path, env, {}) == socket


@pytest.mark.parametrize("text", ["no TOML at all", "[control]\nsocket = 7\n", "control = 7\n"])
def test_where_not_even_the_socket_can_be_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dongled.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        find_socket(path, {}, {})
    with pytest.raises(ConfigError) as refused:
        find_socket(None, {}, {}, "No Name")
    assert refused.value.reason == "instance-name"


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    path = write(tmp_path)
    env = {"DONGLED_STREAM__0__HEIGHT": "480", "DONGLED_STREAM__0__FPS": "15", "PATH": "/bin"}
    loaded = load_layers(path, env, {"stream.0.fps": "10", "ice.stun": ["stun:192.0.2.1:3478"]})
    stream = loaded.settings.stream[0]
    assert (stream.bitrate, stream.width, stream.height, stream.fps) == (2_000_000, 640, 480, 10)
    layers = {value.key: value.layer for value in loaded.values}
    assert layers["stream.0.bitrate"] == "default"
    assert layers["stream.0.width"] == str(path)
    assert layers["stream.0.height"] == "environment DONGLED_STREAM__0__HEIGHT"
    assert layers["stream.0.fps"] == "flag"
    assert layers["ice.stun"] == "flag"
    assert loaded.file == path


def test_a_value_of_the_environment_is_read_as_what_is_wanted(tmp_path: Path) -> None:
    env = {
        "DONGLED_TERMINAL__NAME": "7",
        "DONGLED_TOKEN__IDENTITY__ID": "10",
        "DONGLED_MEETING__0__ROOM": "4711",
        "DONGLED_MEETING__0__CREATE": "true",
        "DONGLED_MEETING__0__SUBSCRIBE": f'["{VIEWER}"]',
        "DONGLED_MEETING__0__SINK__0__KIND": "png",
        "DONGLED_MEETING__0__SINK__0__PATH": "2024-01-01",
        "DONGLED_MEETING__0__SINK__0__EVERY": "2.5",
    }
    settings = load(write(tmp_path), env, {"trust.time-source": "untrusted"})
    assert settings.terminal.name == "7"
    assert settings.token is not None
    assert settings.token.identity.cka_id == b"\x10"
    meeting = settings.meeting[0]
    assert (meeting.room, meeting.create, meeting.subscribe) == (4711, True, (VIEWER,))
    assert (meeting.sink[0].path, meeting.sink[0].every) == (tmp_path / "2024-01-01", 2.5)
    assert settings.trust.time_source == "untrusted"


def test_elements_can_be_added_in_order_and_not_past_the_end(tmp_path: Path) -> None:
    env = {f"DONGLED_STREAM__{n}__ID": f"extra-{n}" for n in range(1, 12)}
    env |= {f"DONGLED_STREAM__{n}__SOURCE": "testsrc" for n in range(1, 12)}
    settings = load(write(tmp_path), env, {})
    assert [s.id for s in settings.stream] == ["camera", *(f"extra-{n}" for n in range(1, 12))]
    found = problems(TEXT, tmp_path, {"DONGLED_STREAM__5__ID": "far"})
    assert "counted from 0" in found["stream.5.id"]
    found = problems(TEXT, tmp_path, {"DONGLED_TRUST__ALLOW_VIEWERS__2": "far"})
    assert "counted from 0" in found["trust.allow-viewers.2"]
    found = problems(TEXT, tmp_path, {"DONGLED_TERMINAL__NAME__INNER": "x"})
    assert "nothing inside" in found["terminal.name.inner"]


def test_a_list_of_a_higher_layer_replaces_the_lower_one(tmp_path: Path) -> None:
    loaded = load_layers(write(tmp_path), {}, {"trust.allow-viewers": "[]"})
    assert loaded.settings.trust.allow_viewers == ()
    assert {v.key: v.layer for v in loaded.values}["trust.allow-viewers"] == "flag"
    stream = [{"id": "camera", "source": "testsrc"}]
    loaded = load_layers(write(tmp_path), {}, {"stream": stream})
    assert {v.key: v.layer for v in loaded.values}["stream.0.width"] == "default"


def test_relative_paths_are_taken_from_the_files_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path / "secrets")
    settings = load(Path("../dongled.toml"), {}, {"control.socket": "run/control.sock"})
    assert settings.token is not None
    assert settings.token.pin_file is not None
    assert settings.token.pin_file.samefile(tmp_path / "secrets" / "pin")
    assert settings.token.module.is_absolute()
    assert settings.trust.roots[0].samefile(tmp_path / "root.pem")
    assert settings.control.socket.parent.parent.samefile(tmp_path)
    assert settings.token.pin == settings.token.pin_file


def test_instances_lie_side_by_side(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, TEXT.replace("Gate 7", "Gate 8"), "gate-8.toml")
    one = load(None, {}, {}, directory=tmp_path)
    two = load_layers(None, {}, {}, "gate-8", tmp_path)
    assert (one.terminal.name, str(one.control.socket)) == ("Gate 7", "/run/dongled/control.sock")
    assert two.settings.terminal.name == "Gate 8"
    assert str(two.settings.control.socket) == "/run/dongled/gate-8/control.sock"
    assert {v.key: v.layer for v in two.values}["control.socket"] == "instance gate-8"
    directories = [str(settings.state.directory) for settings in (one, two.settings)]
    assert directories == ["/var/lib/dongled", "/var/lib/dongled/gate-8"]
    explicit = load(tmp_path / "dongled.toml", {}, {"control.socket": "/tmp/s"}, "gate-8")
    assert (explicit.terminal.name, str(explicit.control.socket)) == ("Gate 7", "/tmp/s")


@pytest.mark.parametrize("name", ["dongled", "../evil", "", "A", "a/b", "x" * 33])
def test_an_instances_name_cannot_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, {}, {}, name, tmp_path)
    assert raised.value.reason == "instance-name"


def test_without_any_configuration_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, {}, {}, directory=tmp_path)
    assert raised.value.reason == "no-configuration"
    assert f"dongled config init --output {tmp_path}/dongled.toml" in raised.value.hint
    assert load_layers(None, {}, {}, directory=tmp_path).file is None
    write(tmp_path, '[terminal]\nname = "x"\n')
    with pytest.raises(ConfigError) as raised:
        load(None, {}, {}, directory=tmp_path)
    assert raised.value.reason == "no-meeting"


@pytest.mark.parametrize("instance", [None, "gate-8"])
def test_a_file_that_was_asked_for_must_be_there(instance: str | None, tmp_path: Path) -> None:
    path = None if instance else tmp_path / "absent.toml"
    with pytest.raises(ConfigError) as raised:
        load_layers(path, {}, {}, instance, tmp_path)
    assert (raised.value.reason, raised.value.exit_code) == ("config-unreadable", 78)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[terminal\n", "config-syntax"),
        (b"a = 1\na = 2\n", "config-syntax"),
        (b"\xff\xfe", "config-syntax"),
        (b"a = " + b"[" * 5000, "config-syntax"),
        (b"#" * (1 << 20) + b"#", "config-too-long"),
    ],
)
def test_what_is_no_toml_is_refused(raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "dongled.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as raised:
        load(path, {}, {})
    assert (raised.value.reason, raised.value.exit_code) == (reason, 78)


def test_unknown_keys_are_told_with_their_place_and_the_nearest_name(tmp_path: Path) -> None:
    text = TEXT.replace('name = "Gate 7"', 'nmae = "Gate 7"').replace("width = 640", "widht = 640")
    text = text.replace("allow-viewers", "allow_viewers") + "wibble = 1\n[recording]\npath = 'x'\n"
    found = problems(text, tmp_path, {"DONGLED_ICE__STUNN": "[]"})
    assert found["terminal.nmae"] == "unknown key; did you mean name?"
    assert found["stream.0.widht"] == "unknown key; did you mean width?"
    assert found["trust.allow_viewers"] == "unknown key; did you mean allow-viewers?"
    assert found["ice.stunn"] == "unknown key; did you mean stun?"
    assert "known here: type, url" in found["meeting.0.sfu.wibble"]
    assert "known here: terminal, token" in found["recording"]
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, text), {"DONGLED_ICE__STUNN": "[]"}, {"trust.rots": "[]"})
    where = {problem.key: problem.where for problem in raised.value.problems}
    assert where["terminal.nmae"] == str(tmp_path / "dongled.toml")
    assert where["ice.stunn"] == "environment DONGLED_ICE__STUNN"
    assert where["trust.rots"] == "flag"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Wrong types, missing keys, cross-checks and missing files, in one run."""
    text = (
        TEXT.replace("width = 640", "width = 641")
        .replace("height = 360", 'height = "360"')
        .replace('id = "camera"', 'id = "Camera"')
        .replace('publish = ["camera"]', 'publish = ["lobby-cam", "lobby-cam"]')
        .replace("wss://sfu.example.com/janus", "https://sfu.example.com")
        .replace("room = 1234", "")
        .replace('time-source = "system"', 'time-source = "ntp"')
        .replace('pin-file = "secrets/pin"', "")
    )
    found = problems(text, tmp_path)
    assert set(found) == {
        "stream.0.width",
        "stream.0.height",
        "stream.0.id",
        "meeting.0.publish.0",
        "meeting.0.publish.1",
        "meeting.0.sfu.url",
        "meeting.0.room",
        "trust.time-source",
        "token",
    }
    assert found["meeting.0.room"] == "is missing"
    assert "exactly one of pin-file" in found["token"]


SECOND = "[data-token]\nmodule = 'module.so'\nuri = 'pkcs11:serial=2'\n"
ASK = "[authorizer]\nkind = 'program'\n"
EST = "[enrolment]\nca-file = 'root.pem'\nurl = 'https://est"


@pytest.mark.parametrize(
    ("old", "new", "key", "text"),
    [
        ('source = "testsrc"', 'source = "camera"', "stream.0.device", "is missing"),
        ('source = "testsrc"', 'source = "file"', "stream.0.path", "is missing"),
        ('source = "testsrc"', 'source = "testsrc"\ndevice = "/dev/video0"', "stream.0.device", "has no use"),
        ("room = 1234", "room = 0", "meeting.0.room", "greater than or equal to 1"),
        ("room = 1234", "room = true", "meeting.0.room", "valid"),
        ("room = 1234", 'room = "a b"', "meeting.0.room", "pattern"),
        ("room = 1234", f'room = "{"x" * 45}"', "meeting.0.room", "44 characters"),
        ('"wss://', '"wss://user:word@', "meeting.0.sfu.url", "user or password"),
        ("wss://sfu.example.com/janus", "wss:///janus", "meeting.0.sfu.url", "with a host"),
        ("wss://sfu.example.com/janus", "wss://sfu:99999/", "meeting.0.sfu.url", "is not a URL"),
        (
            '"wss://sfu.example.com/janus"',
            '"ws://localhost"\nca-file = "root.pem"',
            "meeting.0.sfu.ca-file",
            "no use",
        ),
        ("[[stream]]", f"{ASK}[[stream]]", "authorizer.url", "or socket"),
        ("[[stream]]", f"{ASK}url = 'https://a'\n[[stream]]", "authorizer.ca-file", "is missing"),
        ("[[stream]]", f"{ASK}url = 'http://a'\n[[stream]]", "authorizer.url", "must be https://"),
        ("[[stream]]", f"{ASK}url = 'https://a'\nsocket = 's'\n[[stream]]", "authorizer.socket", "no use"),
        (
            "[[stream]]",
            f"{ASK}socket = 's'\nca-file = 'root.pem'\n[[stream]]",
            "authorizer.ca-file",
            "no use",
        ),
        (
            "[[stream]]",
            f"{ASK}socket = 's'\nrefresh = 99\nremember = 99\n[[stream]]",
            "authorizer.remember",
            "longer",
        ),
        ("[[stream]]", f"{ASK}socket = 's'\napproval = 99\n[[stream]]", "authorizer.approval", "no use"),
        ("[[stream]]", f"{ASK}socket = 's'\n[[stream]]", "trust.allow-viewers", "no use"),
        ("[[stream]]", "[authorizer]\nkind = 'operator'\n[[stream]]", "trust.allow-viewers", "no use"),
        ("[[stream]]", "[authorizer]\nsocket = 's'\n[[stream]]", "authorizer.socket", "no use"),
        ("[[stream]]", "[authorizer]\nkind = 'anybody'\n[[stream]]", "authorizer.kind", "list"),
        ("[[stream]]", f"{EST}/est'\n[[stream]]", "enrolment.url", "must have no path"),
        ("[[stream]]", f"{EST}'\nusername = 'a:b'\n[[stream]]", "enrolment.username", "match pattern"),
        ("[[stream]]", f"{EST}'\nlabel = '../x'\n[[stream]]", "enrolment.label", "match pattern"),
        (
            "[[stream]]",
            f"{EST}'\ntls-key = 'secrets/pin'\n[[stream]]",
            "enrolment.tls-key",
            "belong together",
        ),
        ("[[stream]]", f"{EST.replace('https', 'http')}'\n[[stream]]", "enrolment.url", "must be https://"),
        (
            "[[stream]]",
            f"{EST}'\npassword-file = 'secrets/pin'\npassword-credential = 'c'\n[[stream]]",
            "enrolment.password-file",
            "exactly one",
        ),
        ("serial=0123abcd", "object=x", "token.uri", "serial"),
        ("serial=0123abcd", "serial=", "token.uri", "serial"),
        ("serial=0123abcd", "serial=1?pin-value=2", "token.uri", "must not carry a PIN"),
        ("serial=0123abcd", "serial=1?x=y&pin-source=z", "token.uri", "must not carry a PIN"),
        ("[[stream]]", f"{SECOND}[[stream]]", "data-token", "exactly one"),
        ("[[stream]]", f"{SECOND}pin-file = 'absent'\n[[stream]]", "data-token.pin-file", "is not there"),
        ("[[stream]]", f"{SECOND.replace('serial', 'token')}[[stream]]", "data-token.uri", "serial"),
        ("[[stream]]", f"{SECOND}on-removal = 'mute'\n[[stream]]", "data-token.on-removal", "unknown key"),
        (
            "[[stream]]",
            f"{EST}'\ndata-officer-file = 'secrets/pin'\n[[stream]]",
            "enrolment.data-officer-file",
            "no use",
        ),
        ("urn:uuid:1", "urn:uuid:G", "trust.allow-viewers.0", "match pattern"),
        ('roots = ["root.pem"]', "", "trust.roots", "needs the roots"),
        ('roots = ["root.pem"]', 'roots = ["absent.pem"]', "trust.roots", "is not there"),
        ('roots = ["root.pem"]', 'roots = ["secrets"]', "trust.roots", "not a regular file"),
        ('publish = ["camera"]', 'publish = ["camera", "camera"]', "meeting.0.publish.1", "named twice"),
        ("room = 1234", 'room = 1\nsink = [{kind = "png"}]', "meeting.0.sink.0.path", "is missing"),
        ("room = 1234", 'room = 1\nsink = [{kind = "mkv", path = "{x}"}]', "meeting.0.sink.0.path", "braces"),
        (
            "time-source",
            'revocation = "crl"\nrevocation-responder = "http://h"\ntime-source',
            "trust.revocation-responder",
            "no use",
        ),
        (
            "time-source",
            'revocation = "off"\nrevocation-crl-urls = ["http://h"]\ntime-source',
            "trust.revocation-crl-urls",
            "no use",
        ),
        (
            "time-source",
            'revocation-crls = ["absent.crl"]\ntime-source',
            "trust.revocation-crls",
            "is not there",
        ),
        (
            "time-source",
            'revocation-responder = "file:///etc/passwd"\ntime-source',
            "trust.revocation-responder",
            "must be",
        ),
        (
            "[[stream]]",
            '[[ice.turn]]\nurl = "turn:h"\nusername = "u"\n[[stream]]',
            "ice.turn.0.password-file",
            "one of",
        ),
        ("[[stream]]", '[ice]\nstun = ["turn:h"]\n[[stream]]', "ice.stun.0", "match pattern"),
        (
            "[[meeting]]",
            '[[stream]]\nid = "camera"\nsource = "testsrc"\n[[meeting]]',
            "stream.1.id",
            "used twice",
        ),
        ("pin-file =", 'pin-credential = "pin"\npin-file =', "token", "not pin-file and pin-credential"),
        ("pin-file =", "pin-prompt = true\npin-file =", "token", "not pin-file and pin-prompt"),
        (
            "room = 1234",
            'room-pin-file = "a"\nroom-pin-credential = "b"\nroom = 1',
            "meeting.0.room-pin-file",
            "one of",
        ),
    ],
)
def test_each_rule(old: str, new: str, key: str, text: str, tmp_path: Path) -> None:
    changed = TEXT.replace(old, new, 1)
    assert changed != TEXT
    assert text in problems(changed, tmp_path)[key]


def test_an_encrypted_meeting_needs_a_token_and_a_plain_one_does_not(tmp_path: Path) -> None:
    start, rest = TEXT.split("[token]")
    without = start + rest[rest.index("[[stream]]") :]
    found = problems(without, tmp_path)
    assert set(found) == {"token", "trust.roots"}
    plain = without.replace("room = 1234", 'room = 1\nencryption = "plain"')
    assert load(write(tmp_path, plain), {}, {}).token is None


@pytest.mark.property("P10")
def test_no_stream_is_published_sealed_and_plain(tmp_path: Path) -> None:
    text = TEXT + TEXT[TEXT.index("[[meeting]]") :].replace('"lobby"', '"hall"\nencryption = "plain"')
    assert "of its own" in problems(text, tmp_path)["meeting.1.publish.0"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secrets_file_open_to_others_is_refused(mode: int, tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "secrets" / "pin").chmod(mode)
    with pytest.raises(ConfigError) as raised:
        load(path, {}, {})
    assert f"mode {mode:04o}" in str(raised.value)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("[token]", "pin"),
        ("[[meeting]]", "room-pin"),
        ("[meeting.sfu]", "token"),
        ("[meeting.sfu]", "api-secret"),
        ('[[ice.turn]]\nurl = "turn:h"\nusername = "u"', "password"),
    ],
)
def test_a_secret_in_the_file_is_refused_by_name_and_never_shown(
    place: str, key: str, tmp_path: Path
) -> None:
    secret = secrets.token_hex(8)
    line = f'{place}\n{key} = "{secret}"\n'
    text = TEXT.replace(f"{place}\n", line) if place in TEXT else TEXT + line
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, text), {}, {})
    error = raised.value
    assert f"use {key}-file or {key}-credential" in str(error)
    shown = f"{error}{error!r}{error.hint}{error.problems!r}{error.__cause__!r}{error.__context__!r}"
    assert secret not in shown


@pytest.mark.parametrize(
    "variable", ["DONGLED_TOKEN__PIN", "DONGLED_TOKEN__URI", "DONGLED_TRUST__TIME_SOURCE"]
)
def test_no_error_shows_a_value(variable: str, tmp_path: Path) -> None:
    secret = secrets.token_hex(8)
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path), {variable: f"x{secret}"}, {})
    assert secret not in f"{raised.value}{raised.value.problems!r}{raised.value.__context__!r}"


def test_secrets_are_named_by_file_or_credential(tmp_path: Path) -> None:
    text = TEXT.replace('pin-file = "secrets/pin"', 'pin-credential = "token-pin"')
    settings = load(write(tmp_path, text), {}, {})
    assert settings.token is not None
    assert settings.token.pin == Credential("token-pin")
    assert settings.meeting[0].room_pin is None
    prompt = TEXT.replace('pin-file = "secrets/pin"', "pin-prompt = true")
    settings = load(write(tmp_path, prompt), {}, {})
    assert settings.token is not None
    assert settings.token.pin is None


def test_settings_cannot_be_changed_and_take_python_names() -> None:
    settings = Settings.model_validate({"terminal": {"name": "x"}, "trust": {"time_source": "system"}})
    with pytest.raises(ValueError, match="frozen"):
        settings.terminal = settings.terminal
    assert settings.trust.time_source == "system"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "terminal",
        "token",
        "trust",
        "ice",
        "stream",
        "meeting",
        "control",
        "token.identity",
        "trust.roots",
        "meeting.0",
        "meeting.0.sfu",
        "meeting.0.publish",
        "stream.0.id",
        "ice.turn",
    ]
)
TREES = st.dictionaries(KEYS, JSON, max_size=4)


@given(values=TREES, env=st.dictionaries(KEYS, st.text(max_size=8), max_size=3))
def test_nonsense_is_refused_and_never_crashes(values: dict[str, Any], env: dict[str, str]) -> None:
    variables = {f"DONGLED_{key.replace('.', '__').upper()}": text for key, text in env.items()}
    with contextlib.suppress(ConfigError):
        load_layers(None, variables, values, directory=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('require-for = ["camera"]', "presence.credentials", "require-for needs it"),
        ('show-to = ["*"]', "presence.credentials", "show-to needs it"),
        ('credentials = ["people"]\nrequire-for = ["vault"]', "presence.require-for.0", "names no stream"),
        ('credentials = ["people"]\nrequire-for = ["Camera"]', "presence.require-for.0", ""),
        ('credentials = ["people"]\nshow-to = ["door"]', "presence.show-to.0", ""),
        ('credentials = ["gone"]\nshow-to = ["*"]', "presence.credentials", "is not there"),
        ("lasts = 59", "presence.lasts", ""),
        ("lasts = 86401", "presence.lasts", ""),
    ],
)
def test_what_cannot_be_meant_of_presence(tmp_path: Path, text: str, key: str, problem: str) -> None:
    (tmp_path / "people").write_text("{}")
    found = problems(f"{TEXT}\n[presence]\n{text}\n", tmp_path)
    assert list(found) == [key]
    assert problem in found[key]


@pytest.mark.parametrize("text", ["", 'credentials = ["people"]\nrequire-for = ["camera", "*"]'])
def test_what_can_be_meant_of_presence(tmp_path: Path, text: str) -> None:
    (tmp_path / "people").write_text("{}")
    presence = load(write(tmp_path, f"{TEXT}\n[presence]\n{text}\n"), {}, {}).presence
    assert (presence.verify, presence.lasts, presence.show_to) == (False, 28_800, ())
