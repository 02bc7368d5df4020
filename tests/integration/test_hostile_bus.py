"""Whoever gets onto the bus: what they say is refused by name, seen in status, and the picture goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.protocol.bus import SoftToken
from dongled.agent.certificates.token_authority import opened as opened_authority
from dongled.agent.policy.clock import TimeSource, TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.protocol import cbor
from dongled.tokens.pin import PinFile
from dongled.tokens.softhsm import find_module
from integration.conftest import Company, Launch
from integration.intruder import BelievesAll, Intruder
from integration.running import Running, opened
from support.authority import DAY, Authority, der
from support.janus import JanusServer

pytestmark = pytest.mark.timeout(300)

SOFTWARE = ASSURANCE_OIDS[Assurance.SOFTWARE]
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority(company: Company) -> Iterator[Authority]:
    """The meeting's own authority, for certificates that its command line would not issue."""
    folder = company.directory / "ca"
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", company.authority.env["SOFTHSM2_CONF"])
    uri = str(company.authority.options[3])
    try:
        with opened_authority(find_module(), uri, PinFile(folder / "pin")) as (key, root):
            yield Authority(key, root)
    finally:
        patch.undo()


@pytest.fixture
def believer(company: Company) -> BelievesAll:
    roots = [company.authority.root.read_bytes()]
    clock = TrustedClock(TimeSource.SYSTEM)
    return BelievesAll(CertificatePolicy(roots, clock, minimum_assurance="software"))


@asynccontextmanager
async def on_the_bus(janus: JanusServer, running: Running) -> AsyncIterator[Intruder]:
    intruder = Intruder(janus.url, running.room)
    await intruder.join()
    try:
        yield intruder
    finally:
        await intruder.room.leave()


async def refused(running: Running, *reasons: str) -> None:
    """Until ``status`` has counted each of these reasons."""
    wanted = set(reasons)
    await asyncio.to_thread(running.until, lambda meeting: wanted <= set(meeting.refused))


async def still_watching(viewer: Running) -> None:
    meeting = await asyncio.to_thread(lambda: viewer.status().meetings[0])
    seen = opened(meeting)
    after = await asyncio.to_thread(viewer.until, lambda meeting: opened(meeting) > seen + 30)
    assert not any(after.receiving[0].frames_failed.values())


@pytest.mark.property("P10")
@pytest.mark.property("P14")
async def test_garbage_is_refused_by_name_and_hurts_nobody(launch: Launch, janus: JanusServer) -> None:
    camera = launch("camera")
    await asyncio.to_thread(camera.until, lambda meeting: meeting.state == "joined")
    async with on_the_bus(janus, camera) as intruder:
        viewer = launch("viewer")
        await asyncio.to_thread(viewer.until, lambda meeting: opened(meeting) > 0)
        heard = [message for message in intruder.heard if cbor.decode(message)[1] == "announce"]
        announcement = heard[0]
        version, _, body = cbor.decode(announcement)
        for message in (
            os.urandom(100),
            announcement[:-20],
            cbor.encode([version, "gossip", body]),
            cbor.encode(["dongled/2", "announce", body]),
            b"\x81" * 40 + b"\x01",
            cbor.encode(["dongled/1"]),
        ):
            await intruder.room.broadcast(message)
        for running in (camera, viewer):
            await refused(
                running, "cbor-malformed", "unknown-type", "version", "cbor-depth", "malformed-envelope"
            )
        await still_watching(viewer)


@pytest.mark.property("P3")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("another root", "chain-untrusted"),
        ("expired", "expired"),
        ("not yet valid", "not-yet-valid"),
        ("a publisher's role", "wrong-role"),
        ("not on the list", "viewer-not-allowed"),
        ("somebody else's", "signature"),
    ],
)
async def test_a_certificate_that_does_not_do_gets_no_key(
    kind: str,
    reason: str,
    launch: Launch,
    janus: JanusServer,
    authority: Authority,
    believer: BelievesAll,
) -> None:
    token = SoftToken()
    viewer_policies = (ROLE_OIDS[Role.VIEWER], SOFTWARE)
    ours: dict[str, Any] = {"begin": NOW - DAY, "end": NOW + DAY, "policies": viewer_policies}
    make = {
        "another root": lambda: Authority.root(begin=NOW - DAY, end=NOW + DAY).leaf(token.identity, **ours),
        "expired": lambda: authority.leaf(
            token.identity, **{**ours, "begin": NOW - 9 * DAY, "end": NOW - timedelta(minutes=1)}
        ),
        "not yet valid": lambda: authority.leaf(
            token.identity, **{**ours, "begin": NOW + timedelta(hours=1), "end": NOW + DAY}
        ),
        "a publisher's role": lambda: authority.leaf(
            token.identity, **{**ours, "policies": (ROLE_OIDS[Role.PUBLISHER], SOFTWARE)}
        ),
        "not on the list": lambda: authority.leaf(token.identity, **ours),
        "somebody else's": lambda: authority.leaf(SoftToken().identity, **ours),
    }[kind]
    # The authority's key is on a token, whose operations wait for their own event loop.
    leaf = await asyncio.to_thread(make)
    camera, viewer = launch("camera"), launch("viewer")
    await asyncio.to_thread(viewer.until, lambda meeting: opened(meeting) > 0)
    async with on_the_bus(janus, camera) as intruder:
        await intruder.announce(token, [der(leaf)], believer)
        await refused(camera, reason)
        assert not intruder.keys
        await still_watching(viewer)
