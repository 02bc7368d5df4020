"""SoftHSM under which the power fails at a chosen one of the steps that change a token."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dongled.tokens import softhsm

SOURCE = Path(__file__).with_suffix(".c")


def build_cutting_module(directory: Path) -> str:
    """Compile the module; returns its path. ``CUT_STEPS`` and ``CUT_AT`` in the environment tell it when."""
    module = directory / "cutting_module.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", f'-DSOFTHSM="{softhsm.find_module()}"', "-o", module, SOURCE],
        check=True,
    )
    return str(module)
