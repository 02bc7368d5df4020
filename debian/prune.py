"""Uninstall from this environment what dongled does not need to run: the lock holds what builds it too."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(name: str, found: set[str]) -> set[str]:
    """``found`` and the distributions that ``name`` leads to."""
    if name not in found:
        found.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(canonicalize_name(requirement.name), found)
    return found


here = {canonicalize_name(one.metadata["Name"]) for one in distributions()}
useless = sorted(here - needed("dongled", set()))
subprocess.run([sys.executable, "-m", "pip", "-q", "uninstall", "-y", *useless], check=True)
