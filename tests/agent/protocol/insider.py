"""A camera, a viewer, and an insider: one with a valid certificate, who does what it can."""

from __future__ import annotations

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from dongled.agent.protocol import sealing
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.messages import Request, Sealed

KINDS = ["announce", "welcome", "presence", "request", "grant", "rekey"]


class Meeting:
    """A camera, a viewer, and an insider with a valid certificate."""

    def __init__(self, seed: int = 1) -> None:
        self.bus = Bus(seed)
        self.camera = self.bus.join("camera", CAMERA)
        self.bus.run(1)
        self.viewer = self.bus.join("viewer")
        self.bus.run(1)
        self.insider = self.bus.join("insider", CAMERA)
        self.bus.run(9)
        assert self.viewer.can_watch(self.camera)
        for terminal in self.bus.terminals:
            assert terminal.refused == []

    def give(self, to: Terminal, message: bytes) -> str | None:
        """Deliver; the reason it was refused for, None when it was not."""
        before = len(to.refused)
        self.bus.deliver(to, message)
        return to.refused[-1].reason if len(to.refused) > before else None

    def still_fine(self) -> None:
        self.bus.run(30)
        assert self.viewer.can_watch(self.camera)
        assert {status.live for status in self.camera.member.peers(self.bus.now)} == {True}

    def ask(self, viewer: Terminal) -> bytes:
        """Make the viewer's request appear, and keep it from the camera."""
        self.bus.interfere = lambda s, r, m: [] if kind_of(m) == "request" else [m]
        feed = viewer.member._subscriber.feeds[self.camera.session]
        feed.missing, feed.ask_at, feed.link = True, 0.0, None
        viewer.member.tick(self.bus.now)
        self.bus.settle(viewer)
        self.bus.interfere = lambda s, r, m: [m]
        assert feed.asked is not None
        return feed.asked.message


def forged_request(meeting: Meeting, claim: bytes | None, sender: Party, **fields: object) -> bytes:
    camera = forge.epoch_of(meeting.camera)
    inside = {
        "streams": ("camera",),
        "echo": bytes(16),
        "nonce": bytes(16),
        "counter": 1000,
        "key_seq": 0,
        **fields,
    }
    ctx = context("request", "meeting", sender, (5,), camera.party)
    inner = Request(**inside)  # type: ignore[arg-type] # the fields as the test gives them
    sealed = sealing.seal(sealing.xwing_public(camera.sealing.public), inner.encode(), ctx)
    payload = Sealed(camera.digest, sealed).encode()
    return forge.sign("request", payload, meeting.insider, ctx, claim=claim)
