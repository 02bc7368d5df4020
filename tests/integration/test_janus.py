"""Rooms, feeds and the bus on a real Janus."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import random
import secrets
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.sfu.fake_janus import Listener
from dongled.agent.demo.namespace import ADDRESS
from dongled.agent.sfu import bus
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings
from dongled.agent.sfu.janus.settings import MAX_ROOM
from dongled.media.webrtc import BusLink, IceSettings
from integration.stock_peers import StockPublisher, StockSubscriber
from support.janus import JanusServer
from support.openssl import openssl

Members = Callable[..., Any]

# What JanusRoom.leave promises, times three.
LEFT_WITHIN = 3 * 4.0


def bus_link() -> BusLink:
    return BusLink(IceSettings())


@pytest.fixture(scope="module")
def janus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanusServer]:
    """One for the tests that leave it as it was; each has a room of its own there."""
    with JanusServer(tmp_path_factory.mktemp("sfu") / "janus") as server:
        yield server


@pytest.fixture
def room() -> str:
    return f"room-{secrets.token_hex(8)}"


@pytest.fixture
async def enter(room: str) -> AsyncIterator[Members]:
    """Enters a room as a member; whoever is still there when the test ends leaves."""
    ours = room
    async with contextlib.AsyncExitStack() as stack:

        async def enter(
            server: JanusServer, member: str, room: str = ours, **changes: Any
        ) -> tuple[JanusRoom, Listener]:
            listener = Listener()
            entered = JanusRoom(JanusSettings(server.url, room, **changes), listener, bus_link)
            await entered.join(member)
            stack.push_async_callback(entered.leave)
            return entered, listener

        yield enter


async def refused(entering: Any) -> SfuError:
    with pytest.raises(SfuError) as caught:
        await entering
    return caught.value


async def published(listener: Listener) -> Feed:
    """The feed that is told next."""
    seen = len(listener.told)
    what, feed = (await listener.wait(seen + 1))[-1]
    assert what == "published"
    assert isinstance(feed, Feed)
    return feed


# --- the bus ----------------------------------------------------------------------------------------


async def test_two_members_that_start_together_hear_each_other(janus: JanusServer, enter: Members) -> None:
    (alice, to_alice), (bob, to_bob) = await asyncio.gather(enter(janus, "alice"), enter(janus, "bob"))
    sizes = [1, 100, bus.CHUNK, bus.CHUNK + 1, 60_000, 7, bus.MAX_MESSAGE, 3]
    there = [random.Random(size).randbytes(size) for size in sizes]
    back = [bytes(reversed(message)) for message in there]
    for message, answer in zip(there, back, strict=True):
        await alice.broadcast(message)
        await bob.broadcast(answer)
    assert await to_bob.wait(len(sizes)) == [("message", "alice", message) for message in there]
    assert await to_alice.wait(len(sizes)) == [("message", "bob", message) for message in back]


async def test_a_third_member_hears_both(janus: JanusServer, enter: Members) -> None:
    alice, _ = await enter(janus, "alice")
    bob, to_bob = await enter(janus, "bob")
    _, to_carol = await enter(janus, "carol")
    await alice.broadcast(b"from alice")
    await to_bob.wait(1)
    await bob.broadcast(b"from bob")
    assert await to_carol.wait(2) == [("message", "alice", b"from alice"), ("message", "bob", b"from bob")]


async def test_messages_take_milliseconds(janus: JanusServer, enter: Members) -> None:
    alice, _ = await enter(janus, "alice")
    _, to_bob = await enter(janus, "bob")
    for size in (200, 15_000, 60_000):
        took = []
        for _ in range(20):
            message, seen = os.urandom(size), len(to_bob.told)
            started = time.perf_counter()
            await alice.broadcast(message)
            assert (await to_bob.wait(seen + 1))[-1] == ("message", "alice", message)
            took.append((time.perf_counter() - started) * 1000)
        assert statistics.median(took) < 500


async def test_an_oversized_message_is_refused(janus: JanusServer, enter: Members) -> None:
    alice, _ = await enter(janus, "alice")
    _, to_bob = await enter(janus, "bob")
    error = await refused(alice.broadcast(bytes(bus.MAX_MESSAGE + 1)))
    assert error.reason == "message-too-large"
    await alice.broadcast(b"still here")
    assert await to_bob.wait(1) == [("message", "alice", b"still here")]


async def test_a_member_that_leaves_is_seen_to(janus: JanusServer, enter: Members) -> None:
    _, to_alice = await enter(janus, "alice")
    bob, _ = await enter(janus, "bob")
    await bob.leave()
    assert await to_alice.wait(1) == [("left", "bob")]


@pytest.mark.parametrize("length", [1, MAX_ROOM])
async def test_a_member_whose_connection_breaks_is_seen_to_leave(
    janus: JanusServer, enter: Members, length: int
) -> None:
    room = (secrets.token_hex(1) * MAX_ROOM)[:length]
    _, to_alice = await enter(janus, "alice", room)
    link = bus_link()
    bob = JanusRoom(JanusSettings(janus.url, room), Listener(), lambda: link)
    await bob.join("bob")
    await link.close()
    assert await to_alice.wait(1) == [("left", "bob")]
    await bob.leave()
    # The name is free again.
    await enter(janus, "bob", room)


async def test_a_member_name_is_taken_once(janus: JanusServer, enter: Members) -> None:
    _, to_alice = await enter(janus, "alice")
    bob, to_bob = await enter(janus, "bob")
    error = await refused(enter(janus, "bob"))
    assert error.reason == "member-exists"
    # Who was there first is untouched.
    await bob.broadcast(b"still bob")
    assert await to_alice.wait(1) == [("message", "bob", b"still bob")]
    assert to_bob.told == []
    await bob.leave()
    await enter(janus, "bob")


# --- entering ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [True, False])
async def test_the_rooms_pin(janus: JanusServer, enter: Members, encrypted: bool) -> None:
    pin, wrong = secrets.token_hex(8), secrets.token_hex(8)
    await enter(janus, "alice", room_pin=pin, encrypted=encrypted)
    error = await refused(enter(janus, "bob", room_pin=wrong, encrypted=encrypted))
    assert error.reason == "room-unauthorized"
    assert wrong not in str(error)
    error = await refused(enter(janus, "bob", encrypted=encrypted))
    assert error.reason == "room-pin-missing"
    await enter(janus, "bob", room_pin=pin, encrypted=encrypted)


async def test_the_api_secret(tmp_path: Path, enter: Members) -> None:
    secret = secrets.token_hex(8)
    async with JanusServer(tmp_path / "janus", api_secret=secret) as janus:
        for given in (None, secrets.token_hex(8)):
            error = await refused(enter(janus, "alice", api_secret=given))
            assert error.reason == "unauthorized"
            assert "secret" in error.hint
        _, listener = await enter(janus, "alice", api_secret=secret)
        assert listener.told == []


def signed_token(secret: str, *plugins: str) -> str:
    """https://janus.conf.meetecho.com/docs/auth.html, "Signed token-based authentication"."""
    claim = ",".join([str(int(time.time()) + 600), "janus", *plugins])
    mac = hmac.new(secret.encode(), claim.encode(), hashlib.sha1).digest()
    return f"{claim}:{base64.b64encode(mac).decode()}"


async def test_the_token(tmp_path: Path, enter: Members) -> None:
    secret = secrets.token_hex(8)
    async with JanusServer(tmp_path / "janus", token_auth_secret=secret) as janus:
        video, text = "janus.plugin.videoroom", "janus.plugin.textroom"
        assert (await refused(enter(janus, "alice"))).reason == "unauthorized"
        wrong = signed_token(secrets.token_hex(8), video, text)
        assert (await refused(enter(janus, "alice", token=wrong))).reason == "unauthorized"
        one = signed_token(secret, video)
        assert (await refused(enter(janus, "alice", token=one))).reason == "unauthorized-plugin"
        await enter(janus, "alice", token=signed_token(secret, video, text))


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for the server's address that is its own authority, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    how = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    what = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{ADDRESS}"]
    where = ["-out", str(certificate), "-keyout", str(key)]
    openssl(folder, "req", *how, *what, *where)
    return certificate, key


async def test_tls(tmp_path: Path, enter: Members) -> None:
    certificate, key = self_signed(tmp_path, "janus")
    other, _ = self_signed(tmp_path, "other")
    server = JanusServer(tmp_path / "janus", tls=(certificate, key))
    await asyncio.to_thread(server.__enter__)
    try:
        for trusted in (None, other):
            error = await refused(enter(server, "alice", ca_file=trusted))
            assert error.reason == "sfu-certificate"
        alice, _ = await enter(server, "alice", ca_file=certificate)
        _, to_bob = await enter(server, "bob", ca_file=certificate)
        await alice.broadcast(b"x")
        await to_bob.wait(1)
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_room_that_is_not_there(janus: JanusServer, enter: Members, encrypted: bool) -> None:
    error = await refused(enter(janus, "alice", create=False, encrypted=encrypted))
    assert error.reason == "no-such-room"
    assert "create" in error.hint


@pytest.mark.parametrize("string_ids", [True, False])
async def test_a_room_with_a_number(tmp_path: Path, enter: Members, string_ids: bool) -> None:
    async with JanusServer(tmp_path / "janus", string_ids=string_ids) as janus:
        alice, _ = await enter(janus, "alice", "4711")
        _, to_bob = await enter(janus, "bob", "4711")
        await alice.broadcast(b"x")
        await to_bob.wait(1)
        publisher = StockPublisher()
        feed_id = await alice.publish("door", publisher)
        feed = await published(to_bob)
        assert feed.id == feed_id
        assert feed_id.isdigit() is not string_ids


async def test_a_room_with_a_name_where_rooms_have_numbers(tmp_path: Path, enter: Members) -> None:
    async with JanusServer(tmp_path / "janus", string_ids=False) as janus:
        error = await refused(enter(janus, "alice", "lab"))
        assert error.reason == "room-name-type"


async def test_many_that_start_together(janus: JanusServer, enter: Members) -> None:
    await asyncio.gather(*(enter(janus, f"member-{at}") for at in range(6)))


async def test_members_come_and_go_many_times(janus: JanusServer, enter: Members) -> None:
    _, to_alice = await enter(janus, "alice")
    for _ in range(5):
        bob, _ = await enter(janus, "bob")
        await bob.leave()
    assert await to_alice.wait(5) == [("left", "bob")] * 5


# --- media ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_feed_is_published_watched_and_gone(
    janus: JanusServer, enter: Members, encrypted: bool
) -> None:
    alice, to_alice = await enter(janus, "alice", encrypted=encrypted)
    bob, to_bob = await enter(janus, "bob", encrypted=encrypted)
    feed_id = await alice.publish("alice's door", StockPublisher())
    feed = await published(to_bob)
    assert feed == Feed(feed_id, "alice's door", "vp8", encrypted)
    subscriber = StockSubscriber()
    await bob.subscribe(feed, subscriber)
    async with asyncio.timeout(30):
        await subscriber.received.wait()
    # A newcomer is told of it before its join returns.
    _, to_carol = await enter(janus, "carol", encrypted=encrypted)
    assert to_carol.told == [("published", feed)]
    await alice.unpublish(feed_id)
    await to_bob.wait_for("gone", feed_id)
    assert (await refused(bob.subscribe(feed, StockSubscriber()))).reason == "no-such-feed"
    assert to_alice.told == [], "one's own feed is no feed to watch"


async def test_feeds_of_one_that_leaves_are_gone(janus: JanusServer, enter: Members) -> None:
    alice, _ = await enter(janus, "alice")
    _, to_bob = await enter(janus, "bob")
    ids = {await alice.publish(name, StockPublisher()) for name in ("door", "yard")}
    await to_bob.wait(2)
    await alice.leave()
    told = await to_bob.wait(5)
    assert {what[1] for what in told if what[0] == "gone"} == ids
    assert ("left", "alice") in told


async def test_a_plain_stream_stays_out_of_an_encrypted_room(janus: JanusServer, enter: Members) -> None:
    await enter(janus, "alice")
    mallory, _ = await enter(janus, "mallory", encrypted=False)
    publisher = StockPublisher()
    assert (await refused(mallory.publish("plain", publisher))).reason == "room-encrypted-only"
    await publisher.close()


async def test_unsubscribing_and_watching_again(janus: JanusServer, enter: Members) -> None:
    alice, _ = await enter(janus, "alice")
    bob, to_bob = await enter(janus, "bob")
    await alice.publish("door", StockPublisher())
    feed = await published(to_bob)
    for _ in range(2):
        subscriber = StockSubscriber()
        await bob.subscribe(feed, subscriber)
        async with asyncio.timeout(30):
            await subscriber.received.wait()
        await bob.unsubscribe(feed.id)
    assert to_bob.told == [("published", feed)]


async def test_a_subscriber_whose_peer_connection_breaks_may_come_again(
    janus: JanusServer, enter: Members
) -> None:
    alice, _ = await enter(janus, "alice")
    bob, to_bob = await enter(janus, "bob")
    await alice.publish("door", StockPublisher())
    feed = await published(to_bob)
    subscriber = StockSubscriber()
    await bob.subscribe(feed, subscriber)
    await subscriber.received.wait()
    await subscriber.close()
    assert await to_bob.wait(3) == [("published", feed), ("gone", feed.id), ("published", feed)]
    again = StockSubscriber()
    await bob.subscribe(feed, again)
    async with asyncio.timeout(30):
        await again.received.wait()


# --- losing it --------------------------------------------------------------------------------------


@pytest.fixture
async def own_janus(tmp_path: Path) -> AsyncIterator[JanusServer]:
    async with JanusServer(tmp_path / "janus") as server:
        yield server


async def test_a_killed_janus_is_noticed(own_janus: JanusServer, enter: Members) -> None:
    alice, to_alice = await enter(own_janus, "alice")
    os.kill(own_janus.pid, signal.SIGKILL)
    started = time.monotonic()
    assert await to_alice.wait(1) == [("lost", "sfu-closed")]
    assert time.monotonic() - started < 3 * 2
    started = time.monotonic()
    await alice.leave()
    assert time.monotonic() - started < LEFT_WITHIN
    assert to_alice.told == [("lost", "sfu-closed")]


async def test_a_janus_that_hangs_is_noticed(
    own_janus: JanusServer, enter: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dongled.agent.sfu.janus.transactions.KEEPALIVE_EVERY", 0.2)
    alice, to_alice = await enter(own_janus, "alice")
    os.kill(own_janus.pid, signal.SIGSTOP)
    # Only now: one that does not hang may be slow.
    monkeypatch.setattr("dongled.agent.sfu.janus.transactions.ANSWER_WITHIN", 0.5)
    try:
        assert await to_alice.wait(1) == [("lost", "sfu-silent")]
        started = time.monotonic()
        await alice.leave()
        assert time.monotonic() - started < LEFT_WITHIN
    finally:
        os.kill(own_janus.pid, signal.SIGCONT)
