"""A terminal on the lab's device: its package installed, with a card in it, and the daemon run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dongled.agent.demo.provision import Authority
from integration.card_terminal import OPENSC, CardTerminal, make_card_terminal
from lab.machine import Machine
from lab.reader import CcidReader
from support.card import pcscd
from support.card.apdu import Card
from support.chrony import NtsServer

CAMERA = "/dev/dongled/camera-platform-vivid.0"
# A command of dongled's own loads its packages, which takes ten times what it takes on the host.
COMMAND_SECONDS = 120.0
INSTALL_SECONDS = 600.0

_PIN = "/root/pin"
SEALED = "/etc/credstore.encrypted/dongled.token-pin"

# As QEMU's reader takes it: with the protocol T=0 alone (ISO/IEC 7816-3, 8.2).
_HISTORICAL = b"dongled"
_ATR = bytes((0x3B, len(_HISTORICAL))) + _HISTORICAL

_SETTINGS = """\
[terminal]
name = "device"

[token]
pin-credential = "token-pin"

[trust]
roots = ["root.pem"]
minimum-assurance = "software"
allow-viewers = ["{viewer}"]
allow-publishers = []
time-source = "nts"
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

# The last two lines are for a clock that is years behind (docs/certificates.md).
_CHRONY = """\
{server}
ntstrustedcerts {roots}
authselectmode require
driftfile /var/lib/chrony/chrony.drift
ntsdumpdir /var/lib/chrony
nocerttimecheck 1
makestep 1 3
"""
_TIME_ROOTS = "/etc/chrony/lab.pem"


def make_card(folder: Path, authority: Authority) -> CardTerminal:
    """Keys and certificates on a card, by the command line on an office's machine; then pulled.

    Not on the device: what can make keys there (ykcs11) speaks T=1 alone, and QEMU's reader T=0.
    """
    folder.mkdir()
    with pcscd.running(folder) as daemon:
        made = make_card_terminal(folder, "device", "publisher", authority, daemon)
        made.card.inserted.pull()
    return made


@dataclass
class Device:
    machine: Machine
    terminal: CardTerminal
    reader: CcidReader | None = None

    def insert(self) -> None:
        assert self.reader is not None, "it is not running"
        self.reader.insert(Card(_ATR, *self.terminal.card.inserted.card.applets))

    def pull(self) -> None:
        assert self.reader is not None, "it is not running"
        self.reader.pull()

    def power_on(self, clock: str = "utc") -> None:
        """A reader is in it, and the card in the reader."""
        self.machine.start(clock)
        self.reader = CcidReader(self.machine.card)
        self.insert()

    def power_off(self) -> None:
        """At once."""
        self.machine.cut_power()
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def install(self, packages: Sequence[Path]) -> None:
        """As ``apt install`` would, whose other packages the device has already."""
        for package in packages:
            (self.machine.share / package.name).write_bytes(package.read_bytes())
        names = " ".join(f"/mnt/{package.name}" for package in packages)
        self.machine.run(f"dpkg -i {names}", INSTALL_SECONDS)
        for package in packages:
            (self.machine.share / package.name).unlink()

    def prepare(self) -> None:
        """Its token, by the command line, which finds the keys on the card; and its PIN, sealed."""
        run = self.machine.run
        self.write(_PIN, self.terminal.card.pin_text)
        run(f"chmod 600 {_PIN}")
        (token,) = json.loads(run(f"dongled token list --module {OPENSC} --json", COMMAND_SECONDS))
        run(
            f"dongled token prepare --module {OPENSC} --uri '{token['uri']}' --pin-file {_PIN}"
            " --so-pin-file /nowhere",
            COMMAND_SECONDS,
        )
        run(f"systemd-creds encrypt --name=dongled.token-pin {_PIN} {SEALED} && rm {_PIN}")

    def configure(self, root: Path, viewer: str, url: str, room: str) -> None:
        """What is not of the token: whom it trusts, its camera and its meeting."""
        text = _SETTINGS.format(viewer=viewer, camera=CAMERA, room=room, url=url)
        self.write("/etc/dongled/dongled.toml", text)
        self.write("/etc/dongled/root.pem", root.read_text())

    def set_clock_by(self, server: NtsServer) -> None:
        """Its time comes by NTS, as for a device that has no clock which goes on without power."""
        self.write(_TIME_ROOTS, server.authority.read_text())
        self.write("/etc/chrony/chrony.conf", _CHRONY.format(server=server.nts, roots=_TIME_ROOTS))
        self.machine.run(f"chmod 644 {_TIME_ROOTS} && systemctl restart chrony")

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

    def cursor(self) -> str:
        """Where its journal ends."""
        return self.machine.run("journalctl -q -n 0 --show-cursor").rpartition("cursor: ")[2].strip()


def newer(packages: Sequence[Path], folder: Path) -> list[Path]:
    """The same packages as a later version, which depend on each other as the first ones do."""
    folder.mkdir()
    made = []
    for package in packages:
        tree = folder / package.name.partition("_")[0]
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
        control = tree / "DEBIAN/control"
        versions = r"(?m)^(Version: .*|(?:Depends|Recommends): .*dongled(?:-camera)? \(= [^)]*)"
        control.write_text(re.sub(versions, r"\1+lab", control.read_text()))
        made.append(folder / f"{tree.name}_newer.deb")
        subprocess.run(
            ["dpkg-deb", "-Zzstd", "-z1", "--root-owner-group", "--build", tree, made[-1]],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return made
