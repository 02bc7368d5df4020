"""The unit files that come with dongled, made to fit a dongled that lies anywhere and runs as anybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files as resources
from pathlib import Path, PurePosixPath

from dongled.agent.errors import AgentError

# Of what we wrote, the first or second line says so: nothing else is overwritten or removed.
MARK = "by `dongled install-service`"

# Where each file goes on a machine whose /usr is not ours (file-hierarchy(7)).
PLACES = {
    "dongled.service": "etc/systemd/system/dongled.service",
    "dongled@.service": "etc/systemd/system/dongled@.service",
    "dongled-time.socket": "etc/systemd/system/dongled-time.socket",
    "dongled-time@.service": "etc/systemd/system/dongled-time@.service",
    "dongled-unlock.service": "etc/systemd/system/dongled-unlock.service",
    "sysusers.conf": "etc/sysusers.d/dongled.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/dongled.conf",
    "udev.rules": "etc/udev/rules.d/70-dongled.rules",
    "polkit.rules": "etc/polkit-1/rules.d/70-dongled.rules",
}
PACKAGED = ("usr/lib/systemd/system/dongled.service", "lib/systemd/system/dongled.service")
# The sandbox hides these from the daemon.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


def files(program: Path, user: str) -> dict[str, str]:
    """Path below the root to content, for ``program`` run as ``user``. Raises AgentError."""
    if any(program.is_relative_to(hidden) for hidden in HIDDEN):
        raise AgentError(
            "program-hidden",
            f"A service may not look into {program.parent}, where this dongled is.",
            "Install it elsewhere, for example with `python3 -m venv /opt/dongled`, or with UV_TOOL_DIR or "
            "PIPX_HOME in /opt, and call install-service of that one.",
        )
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", user):
        raise AgentError("user-name", f"{user!r} is not a user's name.", "Give the name of a system user.")
    if not re.fullmatch(r"[\w./+@-]+", str(program)):
        raise AgentError(
            "program-path",
            f"{program} holds characters that units spell differently.",
            "Install it elsewhere.",
        )
    return {place: _fit(name, str(program), user) for name, place in PLACES.items()}


def _fit(name: str, program: str, user: str) -> str:
    text = re.sub(r"(Exec\w+=)/usr/bin/dongled\b", lambda match: match[1] + program, _shipped(name))
    match name:
        case "dongled.service" | "dongled@.service":
            text = re.sub(r"^(User|Group)=dongled$", rf"\1={user}", text, flags=re.MULTILINE)
        case "dongled-time.socket":
            text = re.sub(r"^(SocketGroup)=dongled$", rf"\1={user}", text, flags=re.MULTILINE)
        case "sysusers.conf":
            text = re.sub(r"^([um]) dongled\b", rf"\1 {user}", text, flags=re.MULTILINE)
        case "tmpfiles.conf":
            text = re.sub(r"(?<= )dongled(?= )", user, text)
        case "udev.rules":
            text = text.replace('GROUP="dongled"', f'GROUP="{user}"')
        case "polkit.rules":
            text = text.replace('"dongled"', f'"{user}"')
    comment = "//" if name == "polkit.rules" else "#"
    return f"{comment} Written {MARK}, which overwrites and removes it.\n{text}"


def _shipped(name: str) -> str:
    """From the wheel, or from a checkout's own systemd/."""
    in_wheel = resources("dongled.agent") / "systemd" / name
    place = in_wheel if in_wheel.is_file() else Path(__file__).parents[3] / "systemd" / name
    return place.read_text()


def _ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return MARK in file.readline() + file.readline()


def install(root: Path, files: Mapping[str, str], *, dry_run: bool = False) -> list[Path]:
    """Write what is not there as it should be; the files written. Raises AgentError before any is."""
    for packaged in PACKAGED:
        if (root / packaged).exists():
            raise AgentError(
                "packaged",
                f"{root / packaged} is there: a package has installed the service.",
                "Use that one.",
            )
    for place in files:
        if (root / place).exists() and not _ours(root / place):
            raise AgentError(
                "not-ours", f"{root / place} was written by somebody else.", "Move it away first."
            )
    changed = [
        root / place
        for place, text in files.items()
        if not (root / place).exists() or (root / place).read_text() != text
    ]
    if not dry_run:
        for path in changed:
            _write(path, files[str(PurePosixPath(path.relative_to(root)))])
    return changed


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        raise AgentError("unwritable", f"{path}: {error.strerror}", "Run it as root.") from None


def remove(root: Path, files: Mapping[str, str], *, dry_run: bool = False) -> list[Path]:
    """Remove what carries the mark, and nothing else; the files removed. Raises AgentError."""
    ours = [root / place for place in files if (root / place).exists() and _ours(root / place)]
    try:
        for path in [] if dry_run else ours:
            path.unlink()
    except OSError as error:
        raise AgentError("unwritable", f"{path}: {error.strerror}", "Run it as root.") from None
    return ours


def unit_of(instance: str | None) -> str:
    """The name of an instance's unit, without its type."""
    return "dongled" if instance is None else f"dongled@{instance}"


def left_to_do(instance: str | None) -> list[str]:
    """Lines for root after ``install``, which starts nothing."""
    name, unit = instance or "dongled", unit_of(instance)
    return [
        "systemd-sysusers dongled.conf && systemd-tmpfiles --create dongled.conf",
        "systemctl daemon-reload && udevadm control --reload && udevadm trigger",
        f"dongled config init --output /etc/dongled/{name}.toml   # and fill it in",
        f"systemctl enable --now {unit}",
    ]


def left_to_undo(instance: str | None) -> list[str]:
    """Lines for root after ``remove``, which stops nothing."""
    return [
        # Patterns, since a name that is not loaded is an error.
        "systemctl stop 'dongled*.socket' 'dongled*.service'",
        f"systemctl disable {unit_of(instance)}",
        "systemctl daemon-reload && udevadm control --reload && udevadm trigger",
    ]
