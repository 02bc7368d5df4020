"""A device that starts again: in order, without, and with a clock that is wrong."""

from __future__ import annotations

import time

import pytest

from lab.conftest import START_SECONDS, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


def test_it_is_rebooted(lab: Lab) -> None:
    before = lab.device.machine.run("cat /proc/sys/kernel/random/boot_id")
    with lab.fault("reboot, its boot included", within=START_SECONDS) as fault:
        fault.begins()
        lab.device.machine.reboot()
    assert lab.device.machine.run("cat /proc/sys/kernel/random/boot_id") != before


def test_its_power_is_cut(lab: Lab) -> None:
    with lab.fault("power cut, its boot included", within=START_SECONDS) as fault:
        lab.device.power_off()
        fault.begins()
        lab.device.power_on()
        lab.device.machine.await_boot()
    lab.device.machine.run(
        "systemctl is-active dongled && test $(systemctl --failed --no-legend | wc -l) = 0"
    )


def test_its_time_is_asked_for_again_and_again(lab: Lab) -> None:
    """By another member of the group: systemd would have the socket fail after 200 times in 2 s."""
    machine = lab.device.machine
    machine.run(
        "runuser -u dongled -- python3 -c 'import socket\n"
        "for _ in range(1000):\n"
        "    with socket.socket(socket.AF_UNIX) as asking:\n"
        '        asking.connect("/run/dongled-time.sock")\'',
        300,
    )
    assert machine.run("systemctl is-active dongled-time.socket") == "active\n"


def test_its_clock_is_in_1970(lab: Lab) -> None:
    """Nothing is granted by it, until an authenticated time has set it."""
    machine = lab.device.machine
    lab.device.power_off()
    lab.telling_time.close()
    lab.device.power_on(clock="1970-01-01T00:00:00")
    machine.await_boot()
    # systemd sets such a clock forward to when it was built itself (systemd(1)), which is the past still.
    # When chrony tries again is up to it: each time after twice as long.
    with lab.fault("clock in 1970 at boot, until NTS", cursor="", within=START_SECONDS) as fault:
        fault.warning("time-not-trusted", "time-(nts-unsynchronised|below-floor)")
        lab.telling_time.enter_context(lab.nts.running())
    assert abs(int(machine.run("date +%s")) - time.time()) < 10
