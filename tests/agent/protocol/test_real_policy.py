"""The machine with X.509 certificates and the daemon's own policy: who is refused, and why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.protocol.bus import CAMERA, Bus, Credentials, SoftToken, Terminal
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import DAY, NOW, Authority, der, pem, uris, urn

PUBLISHER = (ROLE_OIDS[Role.PUBLISHER], ASSURANCE_OIDS[Assurance.HARDWARE])
VIEWER = (ROLE_OIDS[Role.VIEWER], ASSURANCE_OIDS[Assurance.HARDWARE])


class Lab:
    """A root, and terminals that it certified."""

    def __init__(self) -> None:
        self.bus, self.root = Bus(), Authority.root(end=NOW + 99 * DAY)
        self.now = NOW
        self.clock = TrustedClock("system", wall=lambda: self.now)

    def join(
        self,
        name: str,
        role: tuple[object, ...],
        *,
        root: Authority | None = None,
        days: int = 30,
        trusted: bool = True,
        data: bool = True,
        minimum: str = "software",
        publishes: bool = False,
    ) -> Terminal:
        token, terminal = SoftToken(), urn()
        issuer = root or self.root
        how = {"san": uris(terminal), "begin": NOW - 9 * DAY, "end": NOW + days * DAY}
        policy = CertificatePolicy(
            [pem(self.root.certificate)],
            self.clock if trusted else TrustedClock(wall=lambda: self.now),
            allow_viewers=["*"],
            allow_publishers=["*"],
            minimum_assurance=minimum,
        )
        leaf = issuer.leaf(token.identity, policies=role, **how)  # type: ignore[arg-type] # by name
        data_leaf = issuer.data_leaf(token.data, policies=role[1:], **how)
        credentials = Credentials(terminal, [der(leaf)], [der(data_leaf)] if data else [], policy)
        return self.bus.join(name, CAMERA if publishes else (), token=token, credentials=credentials)


def test_certified_terminals_meet_and_their_assurance_shows() -> None:
    lab = Lab()
    camera = lab.join("camera", PUBLISHER, publishes=True, minimum="hardware")
    lab.bus.run(1)
    viewer = lab.join("viewer", VIEWER)
    lab.bus.run(2)
    assert viewer.can_watch(camera)
    assert camera.joined[0].assurance == "hardware"
    assert camera.joined[0].roles == {"viewer"}
    assert camera.refused == viewer.refused == []


@pytest.mark.property("P3")
@pytest.mark.parametrize(
    "what", ["other-root", "expired", "wrong-role", "no-data-certificate", "untrusted-time"]
)
def test_the_wrong_certificate_gets_no_key_and_a_reason_of_its_own(what: str) -> None:
    lab = Lab()
    camera = lab.join(
        "camera", PUBLISHER, publishes=True, minimum="hardware", trusted=what != "untrusted-time"
    )
    lab.bus.run(1)
    viewer = lab.join(
        "viewer",
        PUBLISHER if what == "wrong-role" else VIEWER,
        root=Authority.root("another") if what == "other-root" else None,
        days=-1 if what == "expired" else 30,
        data=what != "no-data-certificate",
    )
    lab.bus.run(30)
    assert viewer.ever_opened == []
    assert viewer.token.counts["derive"] == 0
    (reason,) = camera.reasons() - {"announcement-refused"}
    assert (
        reason
        == {
            "other-root": "chain-untrusted",
            "expired": "expired",
            "wrong-role": "wrong-role",
            "no-data-certificate": "assurance-too-low",
            "untrusted-time": "time-untrusted",
        }[what]
    )


@pytest.mark.property("P3")
def test_a_certificate_that_expires_in_the_meeting_gets_no_further_key() -> None:
    lab = Lab()
    camera = lab.join("camera", PUBLISHER, publishes=True, days=90)
    lab.bus.run(1)
    short, long = lab.join("short", VIEWER, days=1), lab.join("long", VIEWER, days=90)
    lab.bus.run(2)
    assert short.can_watch(camera)
    lab.now += timedelta(days=2)
    another = lab.join("another", VIEWER, days=90)
    lab.bus.run(3)
    assert another.can_watch(camera)
    assert long.can_watch(camera)
    assert not short.can_watch(camera)
