"""The layout holds: one import root in five portions, arrows that only run down, a quick command line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agent", "tokens", "capture", "media", "config")
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def sources() -> set[str]:
    """The Python files of all rooms, as their paths below a room."""
    return {
        path.relative_to(ROOT / room).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")
    }


def test_no_portion_hides_the_others() -> None:
    assert not list(ROOT.glob("*/dongled/__init__.py"))
    for room in ROOMS:
        assert (ROOT / room / "dongled" / room / "py.typed").exists()


def test_who_imports_whom() -> None:
    done = run(BIN / "lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("tokens/dongled/tokens/api.py", "import dongled.agent.errors", "agent is the top"),
        ("config/dongled/config/__init__.py", "import dongled.tokens.api", "are independent"),
        ("media/dongled/media/api.py", "import dongled.capture", "agent is the top"),
        ("capture/dongled/capture/__init__.py", "import dongled.tokens.api", "capture imports only"),
        ("capture/dongled/capture/__init__.py", "import dongled.media.errors", "capture imports only"),
        ("agent/dongled/agent/errors.py", "import pkcs11", "PKCS#11 stays"),
        ("agent/dongled/agent/errors.py", "import aiortc", "aiortc stays"),
    ],
)
def test_an_import_against_the_rules_is_found(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    path = os.pathsep.join(str(tmp_path / room) for room in ROOMS)
    done = run(BIN / "lint-imports", "--no-cache", cwd=tmp_path, PYTHONPATH=path, COLUMNS="200")
    broken = [text for text in done.stdout.splitlines() if " BROKEN" in text]
    assert done.returncode == 1, done.stdout
    assert any(contract in text for text in broken), done.stdout


def test_help_is_quick() -> None:
    """Processor time, best of three: on a busy machine a clock on the wall measures the others."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run(BIN / "dongled", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


def test_help_loads_nothing_heavy() -> None:
    heavy = {
        "aiortc",
        "av",
        "cbor2",
        "cryptography",
        "cv2",
        "httpx",
        "numpy",
        "pkcs11",
        "pydantic",
        "websockets",
    }
    script = (
        "import sys; from dongled.agent.cli.main import main; main(['--help'], standalone_mode=False); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this tree and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_installs_one_name(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    tops = {PurePosixPath(name).parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dongled"}
    assert "dongled/__init__.py" not in names
    assert {name for name in names if name.endswith(".py")} == sources()
    assert {f"dongled/{room}/py.typed" for room in ROOMS} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "dongled = dongled.agent.cli.main:main" in entry_points


def test_the_sdist_holds_the_sources_and_nothing_made_here(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in archive.getnames()}
    ours = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert ours <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "tests/test_house.py"} <= names
    assert not [name for name in names if name.split("/")[0] in {".venv", ".janus", "build", "dist"}]
    assert not [name for name in names if "__pycache__" in name]
