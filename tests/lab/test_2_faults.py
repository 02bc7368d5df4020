"""What befalls a running device. Each cause is named while it lasts, and mended by nobody but the device."""

from __future__ import annotations

import time

import pytest

from lab.conftest import Lab
from lab.device import COMMAND_SECONDS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

_VIVID = "/sys/bus/platform/drivers/vivid"
_INJECT = (
    "while sleep 1; do "
    "v4l2-ctl -d /dev/video0 -c inject_vidioc_streamon_error=1 -c inject_fatal_streaming_error=1; done"
)
# Longer than the patience of any warning, than ICE's consent (30 s) and than a session of Janus's (60 s).
GONE_SECONDS = 75.0
LONG_GONE_SECONDS = 600.0


def test_the_camera_is_unplugged(lab: Lab) -> None:
    with lab.fault("camera unplugged") as fault:
        lab.device.machine.run(f"echo vivid.0 >{_VIVID}/unbind")
        fault.warning("source-silent", "camera-(gone|absent)")
        lab.device.machine.run(f"echo vivid.0 >{_VIVID}/bind")


def test_the_camera_is_disconnected(lab: Lab) -> None:
    """Every call fails with ENODEV until the last one to hold it has let go."""
    with lab.fault("camera disconnected (ENODEV)") as fault:
        lab.device.machine.run("v4l2-ctl -d /dev/video0 -c disconnect=1")
        fault.journal("camera-(gone|stalled)")


def test_the_camera_gives_errors(lab: Lab) -> None:
    machine = lab.device.machine
    with lab.fault("camera's streaming fails") as fault:
        machine.run(f"systemd-run -q --unit=lab-errors bash -c '{_INJECT}'")
        fault.warning("source-silent", "camera-(stalled|unusable|gone)")
        machine.run("systemctl stop lab-errors")


def test_the_card_is_pulled(lab: Lab) -> None:
    with lab.fault("card pulled") as fault:
        lab.device.pull()
        fault.warning("token-absent")
        lab.device.insert()


def test_pcscd_is_killed(lab: Lab) -> None:
    machine = lab.device.machine
    with lab.fault("pcscd killed") as fault:
        machine.run("systemctl stop pcscd.socket; systemctl kill -s KILL pcscd.service")
        fault.warning("token-(absent|fault)")
        machine.run("systemctl start pcscd.socket")


def test_janus_is_killed(lab: Lab) -> None:
    with lab.fault("Janus killed") as fault:
        lab.janus.stop()
        fault.warning("meeting-not-joined", "sfu-[a-z-]*")
        lab.janus.__enter__()


def test_the_network_is_gone(lab: Lab, pytestconfig: pytest.Config) -> None:
    seconds = LONG_GONE_SECONDS if pytestconfig.getoption("--long") else GONE_SECONDS
    with lab.fault(f"network gone for {seconds:.0f} s") as fault:
        began = time.monotonic()
        lab.device.machine.network(up=False)
        fault.warning("meeting-not-joined", "sfu-[a-z-]*")
        # It has to be gone for so long: there is nothing to wait for.
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        lab.device.machine.network(up=True)


def test_it_hangs(lab: Lab) -> None:
    before = lab.device.main_pid()
    with lab.fault("SIGSTOP, until the watchdog's time is up") as fault:
        lab.device.machine.run(f"kill -STOP {before}")
        fault.told(status="no-answer|not-running", doctor="no-answer|not-running")
        fault.journal("Watchdog timeout")
    assert lab.device.main_pid() != before


def test_it_is_killed(lab: Lab) -> None:
    before = lab.device.main_pid()
    with lab.fault("SIGKILL") as fault:
        lab.device.machine.run(f"kill -KILL {before}")
        fault.journal("status=9/KILL")
    assert lab.device.main_pid() != before
    # What is over can still be seen, until somebody starts it again.
    doctor = lab.device.machine.try_run("dongled doctor --check restarts", COMMAND_SECONDS)
    assert doctor.status == 3
    assert "was started again" in doctor.output


def test_a_wrong_configuration_is_reloaded(lab: Lab) -> None:
    machine = lab.device.machine
    before, session = lab.device.main_pid(), lab.opened()[0]
    with lab.fault("wrong configuration, reloaded") as fault:
        machine.run("cp -p /etc/dongled/dongled.toml /root/kept")
        machine.run("sed -i 's/^fps = .*/fps = \"ten\"/' /etc/dongled/dongled.toml")
        assert machine.try_run("systemctl reload dongled", 120).status != 0
        fault.warning("reload-refused", "fps", status="fps")
        machine.run("cp -p /root/kept /etc/dongled/dongled.toml && systemctl reload dongled", 120)
    assert (lab.device.main_pid(), lab.opened()[0]) == (before, session), "the meeting did not go on"


def test_a_wrong_configuration_is_started(lab: Lab) -> None:
    machine = lab.device.machine
    with lab.fault("wrong configuration, started (78)") as fault:
        machine.run("sed -i 's/^fps = .*/fps = \"ten\"/' /etc/dongled/dongled.toml")
        machine.try_run("systemctl restart dongled", 120)
        fault.journal("status=78")
        fault.told(status="fps|not-running", doctor="fatal +config: .*fps")
        assert machine.run("systemctl show -P ActiveState dongled") == "failed\n"
        machine.run("mv /root/kept /etc/dongled/dongled.toml && systemctl restart dongled", 120)
    assert machine.run("systemctl show -P NRestarts dongled") == "0\n"
