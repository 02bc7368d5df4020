"""A terminal on the lab's device: its card prepared as for a real one, its package installed and run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dongled.agent.demo.provision import Authority
from integration.card_terminal import OPENSC, CardTerminal, make_card_terminal
from lab.machine import PATIENCE, Machine
from lab.reader import CcidReader
from support.card import pcscd
from support.card.apdu import Card

CAMERA = "/dev/dongled/camera-platform-vivid.0"
# A command of dongled's own loads its packages, which takes ten times what it takes on the host.
COMMAND_SECONDS = 120.0

_HISTORICAL = b"dongled"
_ATR = bytes((0x3B, len(_HISTORICAL))) + _HISTORICAL

_SETTINGS = """\
[terminal]
name = "device"

[token]
module = "{module}"
uri = "{uri}"
pin-credential = "token-pin"

[token.identity]
id = "{identity[id]}"
sha256 = "{identity[sha256]}"

[token.data]
id = "{data[id]}"
sha256 = "{data[sha256]}"

[trust]
roots = ["root.pem"]
minimum-assurance = "software"
allow-viewers = ["{viewer}"]
allow-publishers = []
time-source = "system"
revocation = "off"

[[stream]]
id = "camera"
source = "camera"
device = "{camera}"
width = 320
height = 180
fps = 10
bitrate = 300000

[[meeting]]
name = "demo"
encryption = "required"
room = "{room}"
create = true
publish = ["camera"]
subscribe = "none"

[meeting.sfu]
url = "{url}"
"""


def prepare_card(directory: Path, authority: Authority) -> CardTerminal:
    """Keys and certificates on a card, by the command line on an office's machine; then pulled."""
    folder = directory / "office"
    folder.mkdir()
    with pcscd.running(folder) as daemon:
        made = make_card_terminal(directory, "device", "publisher", authority, daemon)
        made.card.inserted.pull()
    return made


@dataclass
class Device:
    machine: Machine
    terminal: CardTerminal
    reader: CcidReader | None = None

    @property
    def card(self) -> Card:
        """The card, as QEMU's reader takes it: with the protocol T=0 alone (ISO/IEC 7816-3, 8.2)."""
        return Card(_ATR, *self.terminal.card.inserted.card.applets)

    def plug_in(self) -> None:
        """A card reader with the card in it."""
        self.reader = CcidReader(self.machine.card)
        self.reader.insert(self.card)

    def unplug(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def power_on(self, clock: str = "utc") -> None:
        self.machine.start(clock)
        self.plug_in()

    def power_off(self) -> None:
        """At once."""
        self.machine.cut_power()
        self.unplug()

    def install(self, *packages: Path) -> None:
        """As ``apt install`` would, whose other packages the device has already."""
        for package in packages:
            (self.machine.share / package.name).write_bytes(package.read_bytes())
        names = " ".join(f"/mnt/{package.name}" for package in packages)
        self.machine.run(f"dpkg -i {names}", timeout=600)

    def configure(self, root: Path, viewer: str, url: str, room: str) -> None:
        """Its settings, whom it trusts, and its PIN, sealed to the machine."""
        made = self.terminal
        text = _SETTINGS.format(
            module=OPENSC, uri=made.uris[OPENSC], identity=made.cast.keys["identity"],
            data=made.cast.keys["data"], viewer=viewer, camera=CAMERA, room=room, url=url,
        )  # fmt: skip
        self.write("/etc/dongled/dongled.toml", text)
        self.write("/etc/dongled/root.pem", root.read_text())
        self.write("/tmp/pin", made.card.pin_text)
        sealed = "/etc/credstore.encrypted/dongled.token-pin"
        self.machine.run(f"systemd-creds encrypt --name=dongled.token-pin /tmp/pin {sealed} && rm /tmp/pin")

    def write(self, path: str, text: str) -> None:
        """A file of root's, which dongled's group may read if its folder is dongled's."""
        passing = self.machine.share / "passing"
        passing.write_text(text)
        self.machine.run(f"install -m 640 -g $(stat -c %g $(dirname {path})) /mnt/passing {path}")
        passing.unlink()

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        answer = json.loads(self.machine.run("dongled status --json", COMMAND_SECONDS))
        assert isinstance(answer, dict)
        return answer

    def main_pid(self) -> int:
        return int(self.machine.run("systemctl show -P MainPID dongled"))


@contextmanager
def powered(device: Device) -> Iterator[Device]:
    device.power_on()
    try:
        yield device
    finally:
        device.power_off()


__all__ = ["CAMERA", "PATIENCE", "Device", "powered", "prepare_card"]
