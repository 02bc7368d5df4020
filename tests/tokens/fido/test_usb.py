"""Devices on USB that call themselves FIDO2 keys, and are none or are broken."""

from __future__ import annotations

import os
import tty
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from fido2.ctap import CtapDevice
from fido2.hid import CAPABILITY
from fido2.hid.base import HidDescriptor

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import keys, usb
from dongled.tokens.fido.pcsc import PcscDevice

PACKET = 64


class Plugged:
    """A device, as the kernel shows it: what is written to its path is read here, and the other way round."""

    def __init__(self) -> None:
        self.ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.path = os.ttyname(theirs)
        self._theirs = theirs

    def close(self) -> None:
        os.close(self._theirs)
        os.close(self.ours)

    def says(self, data: bytes) -> None:
        os.write(self.ours, data.ljust(PACKET, b"\0"))


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugged]:
    device = Plugged()
    found = [
        HidDescriptor(path, 0, 0, PACKET, PACKET, None, None) for path in ("/dev/hidraw-gone", device.path)
    ]
    monkeypatch.setattr(usb, "list_descriptors", lambda: found)
    monkeypatch.setattr(PcscDevice, "list_devices", lambda: iter(()))
    monkeypatch.setattr(usb, "SILENT_FOR", 0.05)
    yield device
    device.close()


def opened(path: str) -> int:
    return sum(os.readlink(each) == path for each in Path("/proc/self/fd").iterdir() if each.is_symlink())


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"another channel",
        b"\xff\xff\xff\xff\x86\x00\x11" + b"another nonce",
        b"\xff\xff\xff\xff\xbf\x00\x01\x06",
        b"\xff\xff\xff\xff\xbb\x00\x01\x07",
    ],
    ids=["nothing", "channel", "nonce", "error", "keepalive"],
)
def test_what_is_no_fido2_key_is_passed_over_in_time_and_closed(plugged: Plugged, said: bytes) -> None:
    if said:
        plugged.says(said)
    before = opened(plugged.path)
    for use in (
        lambda: keys.present("x", [b"credential"]),
        lambda: keys.assertion("x", [b"credential"], bytes(32), keys.Person(lambda: None), verified=False),
    ):
        with pytest.raises(TokenError) as refused:
            use()
        assert refused.value.reason == "fido-absent"
    assert opened(plugged.path) == before


class Babbler(CtapDevice):
    """A key that answers every command with the same bytes."""

    capabilities = CAPABILITY.CBOR

    def __init__(self, said: bytes) -> None:
        self.said = said

    def call(self, *_: object, **__: object) -> bytes:
        return self.said

    def close(self) -> None:
        pass

    @classmethod
    def list_devices(cls) -> Iterator[Babbler]:
        return iter(())


@pytest.mark.parametrize(
    "said", [b"", b"\0", b"\0\x01", b"\0\xa1\x01", b"\0\xa0", b"\0\xff", b"\0\xa1\x01\x01"]
)
def test_a_key_that_answers_nonsense_is_a_key_that_failed(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(keys, "devices", lambda: only(Babbler(said)))
    with pytest.raises(TokenError, match="is not enrolled"):
        keys.present("x", [b"credential"])
    with pytest.raises(TokenError, match="the FIDO2 key failed"):
        keys.register("x", "alice", keys.Person(lambda: None), verified=False)


def only(device: CtapDevice) -> Generator[CtapDevice, None, None]:
    yield device
