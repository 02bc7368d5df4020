"""A configuration as an operator would write it, with the files that it names."""

from __future__ import annotations

import secrets
from pathlib import Path

VIEWER = "urn:uuid:11111111-2222-4333-8444-555555555555"

TEXT = f"""\
[terminal]
name = "Gate 7"

[token]
module = "module.so"
uri = "pkcs11:token=gate;serial=0123abcd"
pin-file = "secrets/pin"
identity = {{ id = "01", sha256 = "{"ab" * 32}" }}
data = {{ id = "02", sha256 = "{"cd" * 32}" }}

[trust]
roots = ["root.pem"]
allow-viewers = ["{VIEWER}"]
allow-publishers = ["{VIEWER}"]
time-source = "system"

[[stream]]
id = "camera"
source = "testsrc"
width = 640
height = 360

[[meeting]]
name = "lobby"
room = 1234
publish = ["camera"]

[meeting.sfu]
url = "wss://sfu.example.com/janus"
"""


def write(directory: Path, text: str = TEXT, name: str = "dongled.toml") -> Path:
    """The configuration file, with a module, a root and a generated PIN beside it."""
    (directory / "secrets").mkdir(parents=True, exist_ok=True)
    (directory / "module.so").touch()
    (directory / "root.pem").touch()
    pin = directory / "secrets" / "pin"
    pin.touch(mode=0o600)
    pin.write_text(f"{secrets.randbelow(10**8):08}\n")
    path = directory / name
    path.write_text(text)
    return path
