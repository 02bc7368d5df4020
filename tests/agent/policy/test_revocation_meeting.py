"""Revocation in a meeting: the grant protocol's machine, the daemon's policy, a platform in no hurry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent.protocol.bus import CAMERA, Bus, Credentials, SoftToken, Terminal
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role
from dongled.agent.policy.revocation import Answer, Mode, Pair, Revocations, Source, Status
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import DAY, NOW, Authority, der, pem, uris, urn

pytestmark = pytest.mark.property("P3")

ROLES = (ROLE_OIDS[Role.PUBLISHER], ROLE_OIDS[Role.VIEWER], ASSURANCE_OIDS[Assurance.HARDWARE])
REFRESH = 120.0  # seconds


class Platform:
    """Answers each terminal's policy after a while, and again every REFRESH seconds."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.root = Authority.root(end=NOW + 99 * DAY)
        self.revoked: set[int] = set()
        self.silent = False
        self.serials: dict[str, tuple[int, int]] = {}

    def join(self, name: str, *, publishes: bool = False, answers_after: float = 0.0) -> Terminal:
        """``answers_after`` 0: it knew what it asks before it asked."""
        token, terminal = SoftToken(), urn()
        revocations = Revocations(Mode.OCSP)
        asked: set[bytes] = set()

        def ask(pair: Pair) -> None:
            if pair.key not in asked:
                asked.add(pair.key)
                if answers_after:
                    self.bus.at(answers_after, lambda: answer(pair))
                else:
                    answer(pair)

        def answer(pair: Pair) -> None:
            self.bus.at(REFRESH, lambda: answer(pair))
            if self.silent:
                return
            revoked = pair.certificate.serial_number in self.revoked
            at = NOW + timedelta(seconds=self.bus.now)
            status = Status.REVOKED if revoked else Status.GOOD
            revocations.learn(pair, Answer(Source.OCSP, status, at, at + DAY, at))

        revocations.asked = ask
        policy = CertificatePolicy(
            [pem(self.root.certificate)],
            TrustedClock("system", wall=lambda: NOW),
            allow_viewers=["*"],
            allow_publishers=["*"],
            revocations=revocations,
        )
        how: dict[str, Any] = {"san": uris(terminal), "end": NOW + 30 * DAY}
        leaf = self.root.leaf(token.identity, policies=ROLES, **how)
        data_leaf = self.root.data_leaf(token.data, policies=ROLES[-1:], **how)
        credentials = Credentials(terminal, [der(leaf)], [der(data_leaf)], policy)
        joined = self.bus.join(name, CAMERA if publishes else (), token=token, credentials=credentials)
        self.serials[name] = (leaf.serial_number, data_leaf.serial_number)
        return joined


def test_without_an_answer_nobody_gets_a_key() -> None:
    platform = Platform()
    platform.silent = True
    camera, viewer = platform.join("camera", publishes=True), platform.join("viewer")
    platform.bus.run(400)
    assert viewer.ever_opened == []
    # Of whom nothing was accepted, no other message is either.
    of_strangers = {"announcement-refused", "unknown-announcement", "unknown-sender"}
    assert camera.reasons() <= {"revocation-pending", *of_strangers}


@pytest.mark.parametrize("which", [0, 1], ids=["identity", "data key"])
def test_revoked_in_mid_meeting_is_blind_at_the_next_change_of_keys(which: int) -> None:
    platform = Platform()
    camera = platform.join("camera", publishes=True)
    lost, kept = platform.join("lost"), platform.join("kept")
    platform.bus.run(20)
    assert lost.can_watch(camera)
    assert kept.can_watch(camera)
    platform.revoked.add(platform.serials["lost"][which])
    platform.bus.run(REFRESH)
    newcomer = platform.join("newcomer")
    platform.bus.run(3)
    assert newcomer.can_watch(camera)
    assert kept.can_watch(camera)
    assert not lost.can_watch(camera)
    assert "revoked" in camera.reasons()


def test_a_revoked_camera_is_shown_to_nobody_who_comes() -> None:
    platform = Platform()
    camera = platform.join("camera", publishes=True)
    platform.revoked.add(platform.serials["camera"][0])
    platform.bus.run(REFRESH)
    viewer = platform.join("viewer")
    platform.bus.run(30)
    assert viewer.ever_opened == []
    assert "revoked" in viewer.reasons()
    assert viewer.token.counts["derive"] == camera.token.counts["derive"] == 0


def test_terminals_meet_once_the_platform_has_answered() -> None:
    platform = Platform()
    camera = platform.join("camera", publishes=True, answers_after=0.3)
    viewer = platform.join("viewer", answers_after=0.3)
    platform.bus.run(0.2)
    assert viewer.ever_opened == []
    assert "revocation-pending" in camera.reasons() | viewer.reasons()
    platform.bus.run(3)
    assert viewer.can_watch(camera)


def test_who_is_revoked_is_blind_2_s_after_it_was_learned() -> None:
    platform = Platform()
    camera, lost = platform.join("camera", publishes=True), platform.join("lost")
    platform.bus.run(20)
    assert lost.can_watch(camera)
    platform.revoked.add(platform.serials["lost"][0])
    platform.bus.run(REFRESH)
    camera.member.rejudge(platform.bus.now)
    platform.bus.settle(camera)
    platform.bus.run(2)
    assert not lost.can_watch(camera)
