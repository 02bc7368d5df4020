"""From the package to a picture on another machine.

In order, as all of the lab: what one test leaves, the next one finds.
"""

from __future__ import annotations

import json
import time

import pytest

from lab.conftest import ROOM, START_SECONDS, Lab
from lab.faults import Row

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

_SOCKET, _INTERFACE = "unix:/run/dongled/control.sock", "io.dongled.Control"


def test_the_packages_are_installed(lab: Lab) -> None:
    machine = lab.device.machine
    began = time.monotonic()
    lab.device.install(lab.packages)
    lab.rows.append(Row("packages installed", "done", time.monotonic() - began))
    assert machine.try_run("systemctl is-enabled dongled").output == "disabled\n"
    assert machine.run("systemctl show -P ActiveState dongled") == "inactive\n"
    for path in (
        "/usr/share/man/man1/dongled-token-prepare.1.gz",
        "/usr/share/bash-completion/completions/dongled",
        "/usr/share/zsh/vendor-completions/_dongled",
        "/usr/share/fish/vendor_completions.d/dongled.fish",
    ):
        machine.run(f"dpkg -L dongled | grep -Fx {path}")
    machine.run("test -c /dev/dongled/camera-platform-vivid.0")


def test_the_sandbox_is_tight(lab: Lab) -> None:
    machine = lab.device.machine
    said = machine.run("systemd-analyze security --no-pager dongled | tail -n 1", 300)
    lab.rows.append(Row("systemd-analyze security", said.rpartition(": ")[2].split()[0]))
    assert "exposure level for dongled.service: 1.5 OK" in said


def test_its_first_picture_arrives(lab: Lab) -> None:
    machine = lab.device.machine
    lab.device.prepare()
    lab.device.configure(lab.company.authority.root, lab.company.viewer.urn, lab.janus.url, ROOM)
    lab.device.set_clock_by(lab.nts)
    began = time.monotonic()
    machine.run("systemctl enable --now dongled", 300)
    lab.rows.append(
        Row("first picture after the first start", "seen", lab.until_seen(began, within=START_SECONDS))
    )
    status = lab.device.status()
    assert status["terminal"] == lab.company.camera.urn
    assert status["token"]["state"] == "READY"
    assert (status["time"]["source"], status["time"]["trusted"]) == ("nts", True)
    assert {key["id"] for key in status["token"]["keys"]} == {"01", "03"}
    assert machine.run("stat -c '%U %G %a' /run/dongled /var/lib/dongled").splitlines() == [
        "dongled dongled 755",
        "dongled dongled 700",
    ]
    assert machine.run("systemctl --failed --no-legend") == ""


def test_another_program_can_ask_it(lab: Lab) -> None:
    """systemd's own varlinkctl, which Debian 12 does not have yet."""
    machine = lab.device.machine
    if machine.try_run("command -v varlinkctl").status != 0:
        assert machine.suite == "bookworm"
        return
    assert "method Status()" in machine.run(f"varlinkctl introspect {_SOCKET} {_INTERFACE}")
    answer = json.loads(machine.run(f"varlinkctl call --json=short {_SOCKET} {_INTERFACE}.Status '{{}}'"))
    assert answer["status"]["terminal"] == lab.company.camera.urn
