"""What systemd says of the daemon's service."""

from __future__ import annotations

import asyncio
import subprocess


async def shown(unit: str, *properties: str) -> dict[str, str]:
    """These properties of a service (systemctl(1), show); empty where systemd says nothing."""
    command = ["systemctl", "show", f"--property={','.join(properties)}", f"{unit}.service"]
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
