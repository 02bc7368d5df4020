"""How well the credential that holds a PIN is kept where systemd takes it from. systemd-creds(1)"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from dongled.agent.doctor.api import Finding, failed, ok, skipped, warning

CLEAR, SEALED = Path("/etc/credstore"), Path("/etc/credstore.encrypted")

# What begins a credential that needs the machine's TPM to be opened (src/shared/creds-util.h): with or
# without a key on the disk beside it, a signed policy and a scope.
_TPM = {
    "0c7cc07b117645919c4b0bea08bc20fe",
    "faf7eb9341e3412ca1a436f95a29362f",
    "93a894094874449090caf2fc93cab553",
    "ef4ac13679a9480ea7db68897f9f165d",
    "af4950a849134eb1a73846304ff30c05",
}
_HEAD = 64  # characters


def judge(name: str, clear: Path = CLEAR, sealed: Path = SEALED) -> list[Finding]:
    """Of every instance's credential of this name."""
    try:
        found = [*_in(sealed, name), *_in(clear, name)]
        findings = [_judge(path, path.parent == sealed) for path in found]
    except PermissionError:
        return [skipped(f"only root may look for credential {name}", "run this as root")]
    hint = "`dongled token unlock credential` makes one: docs/operations.md, Secrets"
    return findings or [failed(f"there is no credential dongled.{name} in {clear} or {sealed}", hint)]


def _in(directory: Path, name: str) -> Iterator[Path]:
    if directory.is_dir():
        names = sorted(path.name for path in directory.iterdir())
        wanted = (each for each in names if each.startswith("dongled.") and each.endswith(f".{name}"))
        yield from (directory / each for each in wanted)


def _judge(path: Path, is_sealed: bool) -> Finding:
    where = "a machine without a TPM cannot do better: keep its disk from others"
    if not is_sealed:
        return warning(f"weak: {path} holds it in clear text", "`dongled token unlock credential` seals it")
    with path.open("rb") as file:
        head = b"".join(file.read(_HEAD).split())
    try:
        kind = base64.b64decode(head[: len(head) // 4 * 4], validate=True)[:16].hex()
    except ValueError:
        return failed(f"{path} is no sealed credential", "`dongled token unlock credential` makes one")
    if kind in _TPM:
        return ok(f"{path}, sealed to this machine's TPM")
    return warning(f"weak: what opens {path} lies on the same disk", f"seal it to the TPM; {where}")
