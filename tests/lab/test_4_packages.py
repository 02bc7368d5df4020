"""A later version is installed, and all of it removed: what stays, and what must not."""

from __future__ import annotations

import pytest

from lab.conftest import Lab
from lab.device import newer

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

# But for the system and what it makes of itself as it runs; its share is the host's.
_EVERYWHERE = "/etc /root /home /var /run /tmp /dev/shm /opt /srv /usr/local"


def test_an_upgrade_keeps_the_configuration(lab: Lab) -> None:
    machine = lab.device.machine
    # An operator's own drop-ins for the unit are configuration too.
    machine.run(
        "mkdir -p /etc/systemd/system/dongled.service.d &&"
        " printf '[Service]\\nNice=0\\n' >/etc/systemd/system/dongled.service.d/own.conf"
    )
    sums = "find /etc/dongled /etc/credstore* /etc/systemd/system/dongled* -type f -exec sha256sum {} +"
    before, pid = machine.run(sums), lab.device.main_pid()
    later = newer(lab.packages, lab.folder / "newer")
    with lab.fault("upgrade") as fault:
        lab.device.install(later)
        fault.named.append(machine.run("dpkg-query -W -f '${Version}' dongled"))
    assert fault.named[0].endswith("+lab")
    assert machine.run(sums) == before
    assert lab.device.main_pid() != pid
    assert machine.run("systemctl is-enabled dongled") == "enabled\n"


def test_a_purge_leaves_no_secrets(lab: Lab) -> None:
    machine = lab.device.machine
    # The PIN, wherever it may have come: a search that finds it where it has to be as long as it is used.
    search = f"grep -rlFe {lab.device.terminal.card.pin_text} {_EVERYWHERE} 2>/dev/null || true"
    assert "/run/credstore/dongled-open.token-pin" in machine.run(search, 300).split()
    machine.run("systemctl enable dongled@second")
    machine.run("dpkg --purge dongled-camera dongled", 600)
    assert machine.run(search, 300) == ""
    machine.run("udevadm settle")
    left = machine.run(f"find {_EVERYWHERE} /usr -xdev -name '*dongled*' 2>/dev/null || true", 300).split()
    assert left == []
    assert machine.run("systemctl list-units --all --no-legend 'dongled*'") == ""
