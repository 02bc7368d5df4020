"""SoftHSM at the speed of a card: 150 ms for a signature or a derivation."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dongled.tokens import softhsm

# docs/tokens.md: a real card takes 50 to 200 ms.
OPERATION = 0.150
SOURCE = Path(__file__).with_suffix(".c")


def build_slow_module(directory: Path) -> str:
    """Compile the module; returns its path. It takes SoftHSM's own settings from the environment."""
    module = directory / "slow_module.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", f'-DSOFTHSM="{softhsm.find_module()}"', "-o", module, SOURCE],
        check=True,
    )
    return str(module)
