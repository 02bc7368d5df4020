"""``dongled install-service``: what it writes fits, and it touches nothing that it did not write."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from click.testing import CliRunner

from dongled.agent import units
from dongled.agent.cli import help_files
from dongled.agent.cli.main import main
from dongled.agent.errors import AgentError
from service.units import UNITS, run

PROGRAM = Path("/opt/terminal/bin/dongled")
PROGRAM_HERE = Path(sys.executable).with_name("dongled")


def everything(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_the_units_pass_systemds_own_checks(tmp_path: Path) -> None:
    units.install(tmp_path, units.files(Path("/bin/true"), "camera"))
    folder = tmp_path / "etc/systemd/system"
    os.link(folder / "dongled@.service", folder / "dongled@lab.service")
    paths = [folder / name for name in ("dongled.service", "dongled@lab.service", "dongled-unlock.service")]
    done = run("systemd-analyze", "verify", "--man=no", *paths)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    made = run("systemd-sysusers", f"--root={tmp_path}", "dongled.conf")
    assert made.returncode == 0, made.stderr
    assert re.search("^camera:x:", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)


def test_everything_that_is_shipped_is_installed() -> None:
    assert set(units.PLACES) == {path.name for path in UNITS.iterdir()}


def test_program_and_user_are_put_everywhere(tmp_path: Path) -> None:
    units.install(tmp_path, units.files(PROGRAM, "camera"))
    told = everything(tmp_path)
    unit = told["etc/systemd/system/dongled@.service"]
    for line in (
        "ExecStart=/opt/terminal/bin/dongled run --instance %i",
        "ExecReload=/opt/terminal/bin/dongled reload --instance %i",
        "User=camera",
        "Group=camera",
    ):
        assert f"\n{line}\n" in unit
    assert "d /run/dongled 0755 camera camera -" in told["etc/tmpfiles.d/dongled.conf"]
    assert "d /etc/dongled 0750 root camera -" in told["etc/tmpfiles.d/dongled.conf"]
    assert "\nSocketGroup=camera\n" in told["etc/systemd/system/dongled-time.socket"]
    assert 'GROUP="camera"' in told["etc/udev/rules.d/70-dongled.rules"]
    assert 'subject.user == "camera"' in told["etc/polkit-1/rules.d/70-dongled.rules"]
    assert re.findall("^[um] .*", told["etc/sysusers.d/dongled.conf"], re.MULTILINE) == [
        'u camera - "Encrypted video meetings" /var/lib/dongled',
        "m camera video",
        "m camera audio",
    ]


def test_again_changes_nothing_and_remove_leaves_nothing(tmp_path: Path) -> None:
    files = units.files(PROGRAM, "dongled")
    assert len(units.install(tmp_path, files)) == len(units.PLACES)
    assert units.install(tmp_path, files) == []
    assert len(units.install(tmp_path, units.files(PROGRAM, "camera"))) == 7
    assert len(units.remove(tmp_path, files, dry_run=True)) == len(everything(tmp_path)) == len(units.PLACES)
    units.remove(tmp_path, files)
    assert everything(tmp_path) == {}


def test_what_runs_is_told_how_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket too, which nothing else stops: it was started along with the daemon."""
    monkeypatch.setattr(sys, "argv", [str(PROGRAM)])

    def told(*more: str) -> str:
        done = CliRunner().invoke(main, ["install-service", "--root", str(tmp_path), *more])
        assert done.exit_code == 0, done.output
        return done.output.partition("Now, as root:\n")[2]

    assert "enable --now dongled@lab\n" in told("--instance", "lab")
    installed = tmp_path / "etc/systemd/system"
    assert run("systemctl", f"--root={tmp_path}", "enable", "dongled@lab").returncode == 0
    assert (installed / "multi-user.target.wants/dongled@lab.service").is_symlink()
    assert told("--remove", "--dry-run") == ""
    stop, disable, *_ = told("--remove", "--instance", "lab").splitlines()
    patterns = shlex.split(stop)[2:]
    for unit in ("dongled-time.socket", "dongled.service", "dongled@lab.service", "dongled-unlock.service"):
        assert any(fnmatch(unit, pattern) for pattern in patterns)
    # It does what it says, though the unit's file is gone.
    run("systemctl", f"--root={tmp_path}", *disable.split()[1:])
    assert list(installed.rglob("dongled*")) == []
    assert told("--remove") == ""


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert len(units.install(tmp_path, units.files(PROGRAM, "dongled"), dry_run=True)) == len(units.PLACES)
    assert everything(tmp_path) == {}


def test_what_somebody_else_wrote_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "etc/polkit-1/rules.d/70-dongled.rules"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("// mine\n")
    files = units.files(PROGRAM, "dongled")
    with pytest.raises(AgentError) as refused:
        units.install(tmp_path, files)
    assert refused.value.reason == "not-ours"
    assert units.remove(tmp_path, files) == []
    assert everything(tmp_path) == {"etc/polkit-1/rules.d/70-dongled.rules": "// mine\n"}


def test_a_package_goes_first(tmp_path: Path) -> None:
    packaged = tmp_path / "usr/lib/systemd/system/dongled.service"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    with pytest.raises(AgentError) as refused:
        units.install(tmp_path, units.files(PROGRAM, "dongled"))
    assert refused.value.reason == "packaged"


@pytest.mark.parametrize(
    "program", ["/home/olga/.local/bin/dongled", "/root/v/bin/dongled", "/tmp/v/bin/dongled"]
)
def test_a_program_that_the_sandbox_hides_is_refused(program: str) -> None:
    with pytest.raises(AgentError) as refused:
        units.files(Path(program), "dongled")
    assert refused.value.reason == "program-hidden"


@pytest.mark.parametrize("user", ["", "Root", "a b", "x\nUser=root", "-x"])
def test_a_user_is_a_name(user: str) -> None:
    with pytest.raises(AgentError) as refused:
        units.files(PROGRAM, user)
    assert refused.value.reason == "user-name"


def test_a_program_whose_path_means_something_else_to_systemd_is_refused() -> None:
    with pytest.raises(AgentError) as refused:
        units.files(Path("/opt/50%u $HOME/dongled"), "dongled")
    assert refused.value.reason == "program-path"


def test_the_command_from_the_wheel(tmp_path: Path) -> None:
    """The files are in the wheel, and the command finds them there without a checkout."""
    built = run(
        sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, UNITS.parent
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "root").mkdir()
    script = (
        "import sys; from dongled.agent.cli.main import main; import dongled.agent.units as units;"
        f"assert units.__file__.startswith({str(tmp_path)!r}); sys.argv[0] = {str(PROGRAM)!r};"
        "main(['install-service', '--instance', 'lab', '--root', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "root"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = everything(tmp_path / "root")
    assert set(written) >= set(units.PLACES.values()) | set(help_files.COMPLETIONS.values())
    assert f"{help_files.MANUAL}/dongled-token-init.1" in written
    assert "systemctl enable --now dongled@lab" in done.stdout


def test_each_shell_completes_and_every_page_is_removed_again(tmp_path: Path) -> None:
    files = help_files.files(main)
    units.install(tmp_path, files)
    bash, zsh, fish = (files[help_files.COMPLETIONS[shell]] for shell in ("bash", "zsh", "fish"))
    assert run("bash", "-n", tmp_path / help_files.COMPLETIONS["bash"]).returncode == 0
    assert all("_DONGLED_COMPLETE" in text for text in (bash, zsh, fish))
    # zsh reads the first line alone to find out what is completed.
    assert zsh.splitlines()[0] == "#compdef dongled"
    words = {"_DONGLED_COMPLETE": "bash_complete", "COMP_WORDS": "dongled bug", "COMP_CWORD": "1"}
    asked = subprocess.run(
        [PROGRAM_HERE],
        env=os.environ | words,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert asked.stdout.split() == ["plain,bugreport"]
    assert (tmp_path / help_files.MANUAL / "dongled.1").read_text().startswith('.\\" Written')
    assert units.remove(tmp_path, files) == [tmp_path / place for place in files]
    assert everything(tmp_path) == {}
