"""The unit files: what systemd's own checkers say of them, and what they promise."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dongled.agent.policy import network_time
from dongled.config.schema.settings import Settings
from dongled.config.template import template
from service.units import UNITS, as_systemd_starts, run, settings

DAEMONS = ("dongled.service", "dongled@.service")
# systemd-analyze takes the exposure in tenths.
MOST_EXPOSED = "15"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy whose programs exist on this machine, with an instance of the template."""
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        text = re.sub("/usr/bin/(dongled|chronyc)", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    shutil.copy(tmp_path / "dongled@.service", tmp_path / "dongled@lab.service")
    shutil.copy(tmp_path / "dongled-time@.service", tmp_path / "dongled-time@1.service")
    return tmp_path


def test_systemd_finds_nothing_to_complain_of(units: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", *sorted(units.glob("*[a-z1].*")))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_check_sees_a_mistake(units: Path) -> None:
    unit = units / "dongled.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystems=strict"))
    assert "ProtectSystems" in run("systemd-analyze", "verify", "--man=no", unit).stderr


@pytest.mark.parametrize(
    "unit",
    ["dongled.service", "dongled@lab.service", "dongled-time@1.service", "dongled-unlock.service"],
)
def test_the_sandbox_is_as_tight_as_promised(units: Path, unit: str) -> None:
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
    done = run(*command, units / unit)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "left_out", ["CapabilityBoundingSet=", "ProtectSystem=strict", "NoNewPrivileges=yes"]
)
def test_the_gate_shuts(units: Path, left_out: str) -> None:
    unit = units / "dongled.service"
    text = re.sub(rf"^{left_out}$", "", unit.read_text(), flags=re.MULTILINE)
    assert text != unit.read_text()
    unit.write_text(text)
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
    assert run(*command, unit).returncode != 0


def test_an_instance_differs_by_its_name_alone() -> None:
    def lines(unit: str) -> list[str]:
        return (UNITS / unit).read_text().splitlines()

    differing = [(one, other) for one, other in zip(*map(lines, DAEMONS), strict=True) if one != other]
    for one, other in differing:
        assert one == re.sub(r" \(%i\)| --instance %i|/%i|(?<=dongled-open)\.%i", "", other)
    assert len(differing) == 5 + 7


@pytest.mark.parametrize("unit", DAEMONS)
def test_a_restart_cannot_lock_a_token_or_give_up(unit: str) -> None:
    found = settings(unit)
    assert found["RestartPreventExitStatus"] == ["78"]
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]
    assert not [key for key in found if key.startswith(("Condition", "Assert"))]


@pytest.mark.parametrize("unit", DAEMONS)
def test_operators_keep_their_names(unit: str) -> None:
    """The control socket asks the kernel who calls: in a user namespace all but root would be nobody."""
    assert "PrivateUsers" not in settings(unit)


def test_the_credentials_are_those_that_the_settings_suggest() -> None:
    suggested = set(re.findall(r'^#?[a-z-]+-credential = "(.*)"$', template(), re.MULTILINE))
    assert suggested == {value.partition(":")[0] for value in settings("dongled.service")["LoadCredential"]}


@pytest.mark.parametrize("unit", DAEMONS)
def test_no_sealed_secret_is_taken_for_an_open_one(unit: str) -> None:
    """systemd 257 finds what is sealed, too, by the name under which it lies in a credential store."""
    names = [value.partition(":")[2] for value in settings(unit)["LoadCredential"]]
    assert names
    assert not [name for name in names if name.startswith("dongled.")]


def test_the_daemon_finds_its_directories() -> None:
    default = Settings.model_validate({}, context={"base": Path("/")}).control.socket
    found = settings("dongled.service")
    assert default.parent == Path("/run") / found["RuntimeDirectory"][0]
    # Or stopping one would pull the sockets of the instances from under them.
    assert found["RuntimeDirectoryPreserve"] == ["yes"]


@pytest.mark.parametrize("unit", DAEMONS)
def test_chrony_is_asked_where_the_daemon_asks(unit: str) -> None:
    assert settings("dongled-time.socket")["ListenStream"] == [str(network_time.SOCKET)]
    assert settings("dongled-time.socket")["SocketGroup"] == settings(unit)["Group"]
    assert "dongled-time.socket" in settings(unit)["Wants"][0].split()


def test_whoever_has_chrony_asked_can_say_nothing() -> None:
    found = settings("dongled-time@.service")
    assert (found["StandardInput"], found["StandardOutput"]) == (["null"], ["socket"])
    assert "%" not in found["ExecStart"][0]


def test_the_user_that_runs_it_is_the_one_that_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = run("systemd-sysusers", f"--root={tmp_path}", UNITS / "sysusers.conf")
    assert done.returncode == 0, done.stderr
    (user,) = settings("dongled.service")["User"]
    passwd, groups = (tmp_path / "etc/passwd").read_text(), (tmp_path / "etc/group").read_text()
    assert re.search(rf"^{user}:x:\d+:\d+:.*:/var/lib/dongled:/usr/sbin/nologin$", passwd, re.MULTILINE)
    for group in ("video", "audio"):
        assert re.search(rf"^{group}:x:\d+:{user}$", groups, re.MULTILINE)
    assert f'subject.user == "{user}"' in (UNITS / "polkit.rules").read_text()


def test_pcscd_is_opened_to_nobody_else() -> None:
    """The rule is run by the engine that polkit has, with a polkit of the test's own around it."""
    script = (UNITS / "polkit.rules").read_text()
    around = """
        var rule, polkit = {Result: {YES: "yes"}, addRule: function (added) { rule = added; }};
        %s
        function ask(user, id) { return rule({id: id}, {user: user}) === "yes"; }
        ["dongled", "mallory"].forEach(function (user) {
            ["access_pcsc", "access_card", "protect_card"].forEach(function (action) {
                print(user, action, ask(user, "org.debian.pcsc-lite." + action));
            });
        });
    """
    done = run("duk", "-e", around % script)
    assert [line for line in done.stdout.splitlines() if line.endswith("true")] == [
        "dongled access_pcsc true",
        "dongled access_card true",
    ], done.stderr


# Sealed and opened by systemd's own program, in an /etc, /run and /var/lib/systemd that end with it.
UNLOCK = """
    set -e
    umask "$1"; shift
    mount -t tmpfs none /run; cp -a /etc /run/etc; mount --bind /run/etc /etc
    mount -t tmpfs none /var/lib/systemd
    echo 0123456789abcdef0123456789abcdef >/etc/machine-id
    seal() { systemd-creds encrypt --with-key=host --name="$1" - "/etc/credstore.encrypted/$1" 2>/dev/null; }
    mkdir -p /etc/credstore /etc/credstore.encrypted /run/credstore
    printf 161803 >/etc/credstore/dongled.janus-token
    printf 314159 | seal dongled.token-pin
    printf 271828 | seal dongled.lab.room-pin
    printf 'of another machine' >/etc/credstore.encrypted/dongled.a-broken-one
    echo stale >/run/credstore/dongled-open.a-broken-one
    "$@" && echo succeeded || echo failed
    cd /run/credstore; stat -c '%a %n' *; cat *
"""


def test_secrets_are_opened_one_by_one() -> None:
    """One that does not open keeps no other shut, leaves no old one behind, and is told."""
    found = settings("dongled-unlock.service")
    (command,), (umask,) = found["ExecStart"], found["UMask"]
    done = run("unshare", "-m", "sh", "-c", UNLOCK, "sh", umask, *as_systemd_starts(command))
    assert done.stdout.split() == [
        "failed", "600", "dongled-open.janus-token", "600", "dongled-open.lab.room-pin",
        "600", "dongled-open.token-pin", "161803271828314159",
    ], done.stderr  # fmt: skip
