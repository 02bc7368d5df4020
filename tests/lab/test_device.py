"""A whole terminal, from its package to its picture on another machine, and back after each fault.

In order: what one test leaves, the next one finds.
"""

from __future__ import annotations

import json

import pytest

from lab.conftest import NOTICE_SECONDS, ROOM, Lab, packages

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

_UNBIND = "echo vivid.0 >/sys/bus/platform/drivers/vivid/"


def test_it_is_installed_and_serves_in_its_sandbox(lab: Lab) -> None:
    machine = lab.device.machine
    lab.device.install(*packages())
    assert machine.try_run("systemctl is-enabled dongled").output.strip() == "disabled"
    lab.device.configure(lab.root, lab.viewer_urn, lab.janus.url, ROOM)
    machine.run("dongled config check && systemctl enable --now dongled", timeout=300)
    assert "exposure level for dongled.service: 1.5 OK" in machine.run(
        "systemd-analyze security dongled", timeout=300
    )
    assert lab.device.status()["name"] == "device"
    assert machine.run("stat -c '%U %G %a' /run/dongled /run/dongled/control.sock").splitlines()[0] == (
        "dongled dongled 755"
    )
    assert machine.run("systemctl --failed --no-legend") == ""


def test_its_picture_arrives(lab: Lab) -> None:
    lab.rows.append(("first picture", lab.until_seen(), ""))
    token = lab.device.status()["token"]
    assert token["state"] == "READY"
    assert {key["id"] for key in token["keys"]} == {"01", "03"}


def test_the_camera_is_unplugged_and_plugged_in(lab: Lab) -> None:
    with lab.fault("camera unplugged") as named:
        lab.device.machine.run(f"{_UNBIND}unbind")
        named(lab.named("camera-gone", "camera-absent"))
        lab.device.machine.run(f"{_UNBIND}bind")


def test_the_card_is_pulled_and_inserted(lab: Lab) -> None:
    assert lab.device.reader is not None
    with lab.fault("card pulled") as named:
        lab.device.reader.pull()
        named(lab.named("token-absent"))
        lab.device.reader.insert(lab.device.card)


def test_it_is_killed(lab: Lab) -> None:
    before = lab.device.main_pid()
    with lab.fault("SIGKILL") as named:
        lab.device.machine.run(f"kill -KILL {before}")
        named(lab.says("journalctl --no-pager -b -u dongled -n 30", "status=9/KILL"))
    assert lab.device.main_pid() != before


def test_it_hangs(lab: Lab) -> None:
    before = lab.device.main_pid()
    with lab.fault("SIGSTOP") as named:
        lab.device.machine.run(f"kill -STOP {before}")
        named(lab.says("journalctl --no-pager -b -u dongled -n 60", "Watchdog timeout"))
    assert lab.device.main_pid() != before


def test_pcscd_is_killed(lab: Lab) -> None:
    with lab.fault("pcscd killed") as named:
        lab.device.machine.run("systemctl kill -s KILL pcscd.service")
        named(lab.says("journalctl --no-pager -b -u pcscd -n 30", "status=9/KILL"))


def test_the_sfu_is_killed_and_back(lab: Lab) -> None:
    with lab.fault("Janus killed") as named:
        lab.janus.stop()
        named(lab.named("sfu-unreachable", "sfu-lost", "sfu-gone", "unreachable"))
        lab.janus.__enter__()


def test_the_network_is_gone(lab: Lab) -> None:
    with lab.fault("network gone") as named:
        lab.device.machine.network(up=False)
        named(lab.named("sfu-unreachable", "sfu-lost", "unreachable", "connection-failed"))
        lab.device.machine.network(up=True)


def test_it_is_rebooted(lab: Lab) -> None:
    with lab.fault("reboot"):
        lab.device.machine.reboot()


def test_its_power_is_cut(lab: Lab) -> None:
    with lab.fault("power cut"):
        lab.device.power_off()
        lab.device.power_on()


def test_its_clock_is_in_1970(lab: Lab) -> None:
    """A clock before the time that it was known to be is not believed: no key is granted, and it says why."""
    machine = lab.device.machine
    with lab.fault("clock in 1970 at boot") as named:
        lab.device.power_off()
        lab.device.power_on(clock="1970-01-01T00:00:00")
        # systemd sets such a clock forward to when it was built (systemd(1)), which is the past still.
        named(lab.says("dongled status", "time-untrusted", "before-floor", "clock", "UNTRUSTED", "untrusted"))
        machine.run("hwclock -s 2>/dev/null; date -s @" + str(lab.now()))


def test_a_wrong_configuration_is_not_loaded(lab: Lab) -> None:
    machine = lab.device.machine
    machine.run("cp -p /etc/dongled/dongled.toml /etc/dongled/kept")
    before = lab.device.main_pid()
    with lab.fault("wrong configuration, reloaded") as named:
        machine.run("sed -i 's/^fps = .*/fps = \"ten\"/' /etc/dongled/dongled.toml")
        machine.try_run("systemctl reload dongled")
        named(lab.says("journalctl --no-pager -b -u dongled -n 30", "fps"))
    assert lab.device.main_pid() == before
    machine.run("systemctl restart dongled || true", timeout=NOTICE_SECONDS)
    machine.until("systemctl show -P ExecMainStatus dongled", NOTICE_SECONDS, lambda text: text == "78\n")
    assert machine.run("systemctl show -P ActiveState dongled") == "failed\n"
    with lab.fault("wrong configuration, restarted (78)"):
        machine.run(
            "mv /etc/dongled/kept /etc/dongled/dongled.toml && systemctl restart dongled", timeout=120
        )


def test_a_secret_that_does_not_open_leaves_it_running(lab: Lab) -> None:
    machine = lab.device.machine
    sealed = "/etc/credstore.encrypted/dongled.token-pin"
    machine.run(f"cp {sealed} /root/kept && echo broken >{sealed} && systemctl restart dongled", timeout=120)
    with lab.fault("PIN sealed elsewhere") as named:
        named(lab.says("dongled status", "LOCKED"))
        assert "FAILURE" in machine.run("journalctl --no-pager -b -u dongled-unlock -n 20")
        machine.run(f"cp /root/kept {sealed} && systemctl restart dongled", timeout=120)


def test_an_upgrade_keeps_the_configuration(lab: Lab) -> None:
    machine = lab.device.machine
    sums = "cat /etc/dongled/* /etc/credstore.encrypted/* | sha256sum"
    before, pid = machine.run(sums), lab.device.main_pid()
    with lab.fault("upgrade"):
        lab.device.install(*packages())
    assert machine.run(sums) == before
    assert lab.device.main_pid() != pid


def test_nothing_secret_is_left_behind(lab: Lab) -> None:
    machine = lab.device.machine
    pin = lab.device.terminal.card.pin_text
    done = machine.try_run(f"journalctl --no-pager -o json -b | grep -c {json.dumps(pin)}")
    assert done.output == "0\n", "the PIN is in the journal"
    machine.run("dpkg --purge dongled-camera dongled", timeout=600)
    left = machine.try_run(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /mnt -o -path /var/log \\) -prune"
        " -o -name '*dongled*' -print"
    ).output.split()
    assert left == ["/var/lib/systemd/deb-systemd-helper-enabled"] or not left, left
