"""SoftHSM as a token for laboratories, tests and the demonstration: keys in files, so no security at all."""

from __future__ import annotations

from pathlib import Path

from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.pin import PinSource

TERMINAL_ROLES = (KeyRole.IDENTITY, KeyRole.DATA)

_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/arm-linux-gnueabihf/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)


def find_module() -> str:
    """The path of SoftHSM's PKCS#11 module. Raises TokenError."""
    for path in _MODULES:
        if Path(path).exists():
            return path
    raise TokenError("module-missing", "SoftHSM is not installed", "apt install softhsm2")


def configure(directory: Path) -> dict[str, str]:
    """Make a token store of its own; returns the environment that a process needs to use it."""
    store = directory / "tokens"
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = directory / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {store}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return {"SOFTHSM2_CONF": str(configuration)}


async def provision_token(
    module: str,
    label: str,
    so_pin: PinSource,
    pin: PinSource,
    roles: tuple[KeyRole, ...] = TERMINAL_ROLES,
) -> str:
    """Initialise a token and generate its keys; returns its URI. Raises TokenError."""
    made = await provision.initialize(module, label, so_pin, pin)
    for role in roles:
        await provision.generate(module, made.token.uri, pin, role)
    return made.token.uri
