"""A camera that reaches no responder, and viewers that bring what theirs said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Credentials, SoftToken, Terminal, kind_of
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role
from dongled.agent.policy.revocation import Answer, Mode, Pair, Revocations, Source, Status, pairs_of
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.protocol.api import Evidence, EvidenceWanted
from support.authority import DAY, NOW, Authority, der, pem, uris, urn
from support.platform import HOUR, ocsp_answer

pytestmark = pytest.mark.property("P3")

ROLES = (ROLE_OIDS[Role.PUBLISHER], ROLE_OIDS[Role.VIEWER], ASSURANCE_OIDS[Assurance.HARDWARE])
GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED
Show = Callable[[EvidenceWanted], Evidence]


class Site:
    """A camera that is told nothing about revocations, and viewers that ask for none."""

    def __init__(self) -> None:
        self.bus, self.time = Bus(), NOW
        self.root = Authority.root(end=NOW + 99 * DAY)
        self.camera_knows = Revocations(Mode.OCSP)
        self.leaves: dict[str, list[x509.Certificate]] = {}
        self.camera = self.join("camera", self.camera_knows, publishes=True)

    def join(self, name: str, revocations: Revocations | None, *, publishes: bool = False) -> Terminal:
        token, terminal = SoftToken(), urn()
        how: dict[str, Any] = {"san": uris(terminal), "end": NOW + 30 * DAY}
        leaf = self.root.leaf(token.identity, policies=ROLES, **how)
        data_leaf = self.root.data_leaf(token.data, policies=ROLES[-1:], **how)
        self.leaves[name] = [leaf, data_leaf]
        policy = CertificatePolicy(
            [pem(self.root.certificate)],
            TrustedClock("system", wall=lambda: self.time, steady=lambda: 0.0),
            allow_viewers=["*"],
            allow_publishers=["*"],
            revocations=revocations,
            max_age=DAY,
        )
        credentials = Credentials(terminal, [der(leaf)], [der(data_leaf)], policy)
        return self.bus.join(name, CAMERA if publishes else (), token=token, credentials=credentials)

    def viewer(self, name: str, shows: Callable[[Site, str], Sequence[bytes]]) -> Terminal:
        viewer = self.join(name, None)
        viewer.show = lambda wanted: Evidence(ocsp=tuple(shows(self, name)))
        return viewer

    def pair(self, name: str) -> Pair:
        """A terminal's identity certificate, and who issued it."""
        return pairs_of([self.leaves[name][0], self.root.certificate])[0]

    def answers(self, name: str, status: ocsp.OCSPCertStatus = GOOD, **how: Any) -> list[bytes]:
        return [ocsp_answer(self.root, leaf, status, **how) for leaf in self.leaves[name]]


def test_who_brings_its_answers_is_let_in_by_a_camera_that_reaches_nobody() -> None:
    site = Site()
    viewer = site.viewer("viewer", Site.answers)
    site.bus.run(4)
    assert viewer.can_watch(site.camera)


def test_who_brings_nothing_is_not() -> None:
    site = Site()
    viewer = site.viewer("viewer", lambda *_: [])
    site.bus.run(40)
    assert viewer.ever_opened == []
    assert "revocation-pending" in site.camera.reasons()


def other_authority(site: Site, name: str) -> list[bytes]:
    return [ocsp_answer(Authority.root(), leaf) for leaf in site.leaves[name]]


def old(site: Site, name: str) -> list[bytes]:
    return site.answers(name, this_update=NOW - 2 * DAY, next_update=None)


def of_another(site: Site, name: str) -> list[bytes]:
    return site.answers("camera")


def identity_alone(site: Site, name: str) -> list[bytes]:
    return site.answers(name)[:1]


@pytest.mark.parametrize(
    ("shows", "reason"),
    [
        (lambda *_: [b"junk"], "ocsp-garbage"),
        (other_authority, "ocsp-other-certificate"),
        (old, "ocsp-stale"),
        (of_another, "ocsp-other-certificate"),
        (identity_alone, "revocation-pending"),
        (lambda site, name: site.answers(name, REVOKED), "revoked"),
    ],
)
def test_what_does_not_hold_lets_nobody_in(
    shows: Callable[[Site, str], Sequence[bytes]], reason: str
) -> None:
    site = Site()
    viewer, honest = site.viewer("viewer", shows), site.viewer("honest", Site.answers)
    site.bus.run(40)
    assert viewer.ever_opened == []
    assert viewer.token.counts["derive"] == 0
    assert reason in site.camera.reasons()
    assert honest.can_watch(site.camera)


def test_a_good_answer_from_before_does_not_undo_a_revocation() -> None:
    site = Site()
    viewer = site.viewer("viewer", Site.answers)
    site.bus.run(4)
    assert viewer.can_watch(site.camera)
    site.camera_knows.learn(site.pair("viewer"), Answer(Source.OCSP, Status.REVOKED, NOW, NOW + HOUR, NOW))
    site.camera.member.rejudge(site.bus.now)
    site.bus.settle(site.camera)
    site.bus.run(60)
    assert not viewer.can_watch(site.camera)
    assert "revoked" in site.camera.reasons()


def test_who_goes_on_bringing_fresh_answers_goes_on_watching_and_who_stops_does_not() -> None:
    """Answers of ten minutes, a meeting of twenty: the next round's request brings the next answer."""
    site = Site()

    def fresh(site: Site, name: str) -> list[bytes]:
        return site.answers(name, this_update=site.time, next_update=site.time + timedelta(minutes=10))

    def once(site: Site, name: str) -> list[bytes]:
        return site.answers(name, next_update=NOW + timedelta(minutes=10))

    viewer, lazy = site.viewer("viewer", fresh), site.viewer("lazy", once)
    site.bus.run(4)
    assert viewer.can_watch(site.camera)
    assert lazy.can_watch(site.camera)
    for _ in range(8):
        site.time += timedelta(seconds=150)
        site.bus.run(150)
        assert viewer.can_watch(site.camera)
    assert not lazy.can_watch(site.camera)
    assert "ocsp-stale" in site.camera.reasons()


def test_a_stranger_s_request_under_another_s_announcement_shows_nothing() -> None:
    """Only what the key that was announced has signed is read: nobody spends the camera's time for free."""
    site = Site()
    viewer = site.viewer("viewer", Site.answers)
    stranger = site.bus.join("stranger")
    site.bus.interfere = lambda s, r, m: [] if kind_of(m) == "request" else [m]
    site.bus.run(4)
    request = forge.last(site.bus, viewer, "request")
    ctx = forge.epoch_of(viewer).context("request", forge.party_of(site.camera))
    forged = forge.resign(request, stranger, ctx, claim=forge.party_of(viewer).announcement)
    elsewhere = forge.edit(request, lambda fields: fields.update(to=bytes(32)))
    before = len(site.camera.refused)
    for message in (forged, elsewhere):
        site.bus.deliver(site.camera, message)
    assert [refused.reason for refused in site.camera.refused[before:]].count("signature") == 1
    assert site.camera_knows.held(site.pair("viewer")) == []
    site.bus.interfere = lambda s, r, m: [m]
    site.bus.run(12)
    assert viewer.can_watch(site.camera)
