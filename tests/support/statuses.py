"""A terminal's status in which all is well, to spoil piece by piece."""

from __future__ import annotations

from dongled.agent.status import (
    CertificateStatus,
    DaemonStatus,
    DiskStatus,
    InboundStatus,
    KeyStatus,
    MeetingStatus,
    OutboundStatus,
    PeerStatus,
    RevocationStatus,
    TimeStatus,
    TokenStatus,
)

DAY = 86_400.0
CAMERA = "urn:uuid:6a1d5c3e-7c0b-4f5e-9d53-0c1f8b7c2a11"
VIEWER = "urn:uuid:0f3c8a42-51d7-4a3e-8f6c-7e2b9d4c5a22"


def key(role: str) -> KeyStatus:
    return KeyStatus(role, "01", "ab" * 32, True, True, True, False, True, True, role == "data")


def certificate(role: str) -> CertificateStatus:
    return CertificateStatus(
        role, "CN=door-camera,O=Example", -10 * DAY, 80 * DAY, "2027-02-11T10:00+00:00", 90 * DAY
    )


def sending() -> OutboundStatus:
    return OutboundStatus(
        "camera", "vp8", 3, 29.97, 2_011_000, 9000, 8999, 8999, 8998, 4, {"queue-full": 2, "keys-dropped": 0},
        {"capture": 1.25, "encode": 8.5, "seal": 0.12, "send": 0.4},
    )  # fmt: skip


def receiving() -> InboundStatus:
    return InboundStatus(
        "11" * 16, VIEWER, "front", "vp8", 7, 30.0, 1_900_000, 500, 499, 498, {"bad-signature": 1},
        {"late": 1}, 0, 312.5, {"receive": 0.2, "open": 0.3, "decode": 4.0},
        "CN=control-room,O=Example", ["publisher", "viewer"], "hardware",
    )  # fmt: skip


def peer() -> PeerStatus:
    return PeerStatus(
        "11" * 16, VIEWER, "CN=control-room,O=Example", ["publisher", "viewer"], "hardware", True, [], 0.4,
        ["camera"], ["front"],
    )  # fmt: skip


def meeting() -> MeetingStatus:
    return MeetingStatus(
        "lobby", "required", "wss://sfu.example.com/janus", "lobby", "joined", "", "22" * 16, 3723.0,
        peers=[peer()], sending=[sending()], receiving=[receiving()],
        messages_sent={"hello": 3}, messages_received={"hello": 2},
    )  # fmt: skip


def well() -> DaemonStatus:
    return DaemonStatus(
        version="0.1.0",
        pid=4711,
        instance="",
        terminal=CAMERA,
        name="door-camera",
        uptime=90_061.0,
        token=TokenStatus(
            "READY", "pkcs11:token=terminal;serial=0123456789abcdef", [key("identity"), key("data")], 12, 40
        ),
        meetings=[meeting()],
        certificates=[certificate("identity"), certificate("data")],
        time=TimeStatus("system", trusted=True),
        revocation=RevocationStatus("either"),
        disks=[DiskStatus("/var/lib/dongled", 20 << 30, 30 << 30)],
    )
