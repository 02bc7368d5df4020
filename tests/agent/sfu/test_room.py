"""The two rooms over a Janus that is scripted: feeds, publications, subscriptions and the bus."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sfu.fake_janus import OFFER, FakeJanus, FakePeer, Listener, joined, settings
from agent.sfu.test_wire import VALUES
from dongled.agent.sfu import bus
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom
from dongled.agent.sfu.janus.videoroom import MAX_FEEDS

PUBLISHER = {"id": "f1", "display": "door", "video_codec": "vp8", "streams": []}
FEED = Feed("f1", "door", "vp8", True)


def plugin_error(code: int) -> dict[str, Any]:
    return {"error_code": code, "error": "scripted"}


async def join_refused(janus: FakeJanus, **changes: Any) -> str:
    with pytest.raises(SfuError) as caught:
        async with joined(janus, Listener(), **changes):
            pass
    assert caught.value.hint
    return caught.value.reason


# --- rooms ------------------------------------------------------------------------------------------


async def test_a_missing_room_is_made_as_the_meeting_is() -> None:
    async with FakeJanus() as janus:
        janus.script["exists"] = {"exists": False}
        async with joined(janus, Listener(), room_pin="1234"):
            text, video = janus.bodies("create")
        assert video["require_e2ee"] is True
        assert video["publishers"] > 3
        for body in (text, video):
            assert (body["room"], body["pin"], body["permanent"]) == ("lab", "1234", False)
            assert len(body["secret"]) > 20
        assert text["secret"] != video["secret"]
        assert janus.channel[0]["pin"] == "1234"
        assert janus.channel[0]["history"] is False, "old messages could only be replays"


async def test_a_plain_meeting_has_no_bus() -> None:
    async with FakeJanus() as janus:
        janus.script["exists"] = {"exists": False}
        async with joined(janus, Listener(), encrypted=False) as room:
            (video,) = janus.bodies("create")
            assert video["require_e2ee"] is False
            assert janus.links == []
            with pytest.raises(SfuError) as caught:
                await room.broadcast(b"x")
            assert caught.value.reason == "no-bus"


async def test_losing_the_race_to_create_is_fine() -> None:
    async with FakeJanus() as janus:
        janus.script["exists"] = {"exists": False}
        codes = iter([418, 427])
        janus.script["create"] = lambda message: plugin_error(next(codes))
        async with joined(janus, Listener()):
            assert len(janus.bodies("create")) == 2


@pytest.mark.parametrize(
    ("changes", "script", "reason"),
    [
        ({"create": False}, {"exists": {"exists": False}}, "no-such-room"),
        ({}, {"exists": {"exists": False}, "create": plugin_error(413)}, "create-refused"),
        ({"encrypted": False}, {"exists": {"exists": False}, "create": plugin_error(433)}, "create-refused"),
        ({"encrypted": False}, {"join": plugin_error(433)}, "room-unauthorized"),
        ({"encrypted": False}, {"join": plugin_error(429)}, "room-pin-missing"),
        ({"encrypted": False, "room_pin": "1"}, {"join": plugin_error(429)}, "element-missing"),
        ({"encrypted": False}, {"join": plugin_error(426)}, "no-such-room"),
        ({"encrypted": False}, {"exists": plugin_error(430)}, "room-name-type"),
        ({"encrypted": False, "room": "007"}, {"exists": plugin_error(430)}, "room-name-type"),
        ({"encrypted": False}, {"exists": {"exists": 1}}, "sfu-malformed"),
        ({"encrypted": False}, {"join": {"id": "x"}}, "sfu-malformed"),
        ({}, {"setup": {"result": "ok"}}, "sfu-malformed"),
        ({}, {"setup": {"result": "ok", "jsep": {**OFFER, "type": "answer"}}}, "sfu-malformed"),
    ],
)
async def test_each_refusal_to_enter_has_its_reason(
    changes: dict[str, Any], script: dict[str, Any], reason: str
) -> None:
    async with FakeJanus() as janus:
        janus.script |= script
        assert await join_refused(janus, **changes) == reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [(420, "member-exists"), (419, "room-unauthorized"), (413, "room-pin-missing"), (417, "no-such-room")],
)
async def test_each_refusal_of_the_bus_has_its_reason(code: int, reason: str) -> None:
    async with FakeJanus() as janus:
        janus.bus_answers["join"] = {"textroom": "error", **plugin_error(code)}
        assert await join_refused(janus) == reason
        assert janus.links[0].closed.is_set()


async def test_rooms_with_numbers() -> None:
    async with FakeJanus() as janus:
        janus.script["join"] = lambda message: {
            "id": 5,
            "private_id": 7,
            "publishers": [{**PUBLISHER, "id": 9}],
        }
        listener = Listener()
        async with joined(janus, listener, room="1234"):
            assert [body["room"] for body in janus.bodies("exists")] == [1234, 1234]
            assert janus.bodies("join")[0]["room"] == 1234
            assert janus.channel[0]["room"] == 1234
            assert listener.told == [("published", Feed("9", "door", "vp8", True))]


@pytest.mark.parametrize(
    ("room", "tried"),
    [("1234", [1234, "1234"]), ("007", ["007"]), ("0", ["0"]), (str(1 << 63), [str(1 << 63)])],
)
async def test_a_room_of_digits_where_rooms_have_names(room: str, tried: list[int | str]) -> None:
    def exists(message: dict[str, Any]) -> dict[str, Any]:
        return {"exists": True} if message["body"]["room"] == room else plugin_error(430)

    async with FakeJanus() as janus:
        janus.script["exists"] = exists
        async with joined(janus, Listener(), room=room, encrypted=False):
            assert [body["room"] for body in janus.bodies("exists")] == tried
            assert janus.bodies("join")[0]["room"] == room


# --- feeds ------------------------------------------------------------------------------------------


async def test_feeds_come_and_go() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            video = janus.handle()
            await janus.tell(video, publishers=[PUBLISHER])
            await janus.tell(video, publishers=[PUBLISHER])
            await janus.tell(video, unpublished="f1")
            await janus.tell(video, leaving="f1")
            await janus.tell(video, publishers=[PUBLISHER])
            await janus.tell(video, kicked="f1")
            await listener.wait(4)
        assert listener.told == [("published", FEED), ("gone", "f1")] * 2


async def test_a_feed_that_goes_before_our_join_is_answered_is_gone() -> None:
    async with FakeJanus() as janus:
        listener = Listener()

        def join(message: dict[str, Any]) -> dict[str, Any]:
            # Both are on their way when the answer is read.
            event = {"plugin": "p", "data": {"unpublished": "f1"}}
            asyncio.get_running_loop().create_task(
                janus.send({"janus": "event", "sender": janus.handle(), "plugindata": event})
            )
            return {"id": "me", "private_id": 7, "publishers": [PUBLISHER]}

        janus.script["join"] = join
        async with joined(janus, listener):
            await listener.wait(2)
        assert listener.told == [("published", FEED), ("gone", "f1")]


async def test_a_feed_that_changes_is_a_new_one() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            await janus.tell(janus.handle(), publishers=[PUBLISHER])
            await janus.tell(janus.handle(), publishers=[{**PUBLISHER, "video_codec": "h264"}])
            await listener.wait(3)
        changed = Feed("f1", "door", "h264", True)
        assert listener.told == [("published", FEED), ("gone", "f1"), ("published", changed)]


@pytest.mark.parametrize(
    "publisher",
    [
        5,
        {},
        {**PUBLISHER, "id": 5},
        {**PUBLISHER, "id": ""},
        {**PUBLISHER, "id": "\x1b[2J"},
        {**PUBLISHER, "display": 5},
        {**PUBLISHER, "display": "x" * 257},
        {**PUBLISHER, "display": "\x1b[2J"},
        {**PUBLISHER, "video_codec": "x264"},
        {**PUBLISHER, "video_codec": None},
        {**PUBLISHER, "e2ee": "yes"},
    ],
)
async def test_a_malformed_publisher_is_left_out(publisher: object) -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            await janus.tell(janus.handle(), publishers=[publisher, {**PUBLISHER, "id": "f2"}])
            await listener.wait(1)
        assert [what[1].id for what in listener.told] == ["f2"]


async def test_invented_feeds_are_limited() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            video = janus.handle()
            await janus.tell(video, publishers=[PUBLISHER] * (MAX_FEEDS + 1))
            for at in range(MAX_FEEDS + 10):
                await janus.tell(video, publishers=[{**PUBLISHER, "id": f"f{at}"}])
            await janus.tell(video, unpublished="f0")
            await listener.wait(MAX_FEEDS + 1)
        assert len(listener.told) == MAX_FEEDS + 1
        assert listener.told[-1] == ("gone", "f0")


@hypothesis.settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["publishers", "unpublished", "leaving", "kicked", "videoroom"]),
            VALUES | st.just([PUBLISHER]),
        ),
        max_size=4,
    )
)
def test_no_event_crashes_the_room(events: list[dict[str, Any]]) -> None:
    async def attack() -> None:
        async with FakeJanus() as janus:
            listener = Listener()
            async with joined(janus, listener, encrypted=False):
                for event in events:
                    await janus.tell(janus.handle(), **event)
                await janus.tell(janus.handle(), publishers=[{**PUBLISHER, "id": "last"}])
                async with asyncio.timeout(30):
                    while not any(what[0] == "lost" or what[-1] == LAST for what in listener.told):
                        await listener.wait(len(listener.told) + 1)

    asyncio.run(attack())


LAST = Feed("last", "door", "vp8", False)


# --- publishing and subscribing ---------------------------------------------------------------------


async def test_publishing() -> None:
    async with FakeJanus() as janus:
        listener, peer = Listener(), FakePeer()
        async with joined(janus, listener, room_pin="12") as room:
            feed = await room.publish("my door", peer)
            assert (feed, peer.accepted) == ("own-2", "v=0 answer")
            assert janus.bodies("join")[1]["display"] == "my door"
            assert janus.bodies("join")[1]["pin"] == "12"
            (request,) = [r for r in janus.requests if r.get("body", {}).get("request") == "publish"]
            assert request["jsep"] == {"type": "offer", "sdp": "v=0 our offer", "e2ee": True}
            # The room tells its other handle of it: that is no feed to watch.
            await janus.tell(janus.handle(), publishers=[{**PUBLISHER, "id": feed}])
            await room.unpublish(feed)
            assert peer.closed.is_set()
            assert janus.requests[-1]["janus"] == "detach"
            await room.unpublish(feed)
        assert listener.told == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (plugin_error(432), "room-full"),
        (plugin_error(433), "room-encrypted-only"),
        (plugin_error(437), "sdp-refused"),
        ({"configured": "ok"}, "sfu-malformed"),
        ({"configured": "ok", "jsep": OFFER}, "sfu-malformed"),
    ],
)
async def test_a_refused_publication_leaves_nothing(answer: dict[str, Any], reason: str) -> None:
    async with FakeJanus() as janus:
        janus.script["publish"] = answer
        async with joined(janus, Listener()) as room:
            with pytest.raises(SfuError) as caught:
                await room.publish("door", FakePeer())
            assert caught.value.reason == reason
            assert janus.requests[-1]["janus"] == "detach"


async def test_a_publication_that_hangs_up_is_a_loss() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener) as room:
            peer = FakePeer()
            await room.publish("door", peer)
            await janus.send({"janus": "hangup", "sender": janus.handle(index=1)})
            assert await listener.wait(1) == [("lost", "publication-hangup")]
        assert peer.closed.is_set()
        # The bus still works: what was said last must get through before it is left.
        assert janus.channel[-1]["textroom"] == "leave"


async def test_subscribing() -> None:
    async with FakeJanus() as janus:
        listener, peer = Listener(), FakePeer()
        async with joined(janus, listener) as room:
            await janus.tell(janus.handle(), publishers=[PUBLISHER])
            await listener.wait(1)
            await room.subscribe(FEED, peer)
            assert peer.accepted == OFFER["sdp"]
            assert janus.bodies("join")[1] == {
                "request": "join",
                "ptype": "subscriber",
                "room": "lab",
                "streams": [{"feed": "f1"}],
                "private_id": 7,
                "autoupdate": False,
            }
            assert janus.requests[-1]["jsep"] == {"type": "answer", "sdp": "v=0 our answer", "e2ee": True}
            with pytest.raises(SfuError) as caught:
                await room.subscribe(FEED, FakePeer())
            assert caught.value.reason == "already-subscribed"
            await room.unsubscribe("f1")
            assert peer.closed.is_set()
            await room.unsubscribe("f1")
            await room.subscribe(FEED, FakePeer())


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"join": plugin_error(428)}, "no-such-feed"),
        ({"join": {"videoroom": "attached"}}, "sfu-malformed"),
        ({"join": {"jsep": {**OFFER, "type": "answer"}}}, "sfu-malformed"),
        ({"join": {"jsep": {**OFFER, "e2ee": True}}}, "feed-encryption"),
        ({"start": plugin_error(499)}, "janus-error"),
    ],
)
async def test_a_refused_subscription_leaves_nothing(script: dict[str, Any], reason: str) -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener, encrypted=False) as room:
            await janus.tell(janus.handle(), publishers=[PUBLISHER])
            (_, feed), *_ = await listener.wait(1)
            janus.script |= script
            with pytest.raises(SfuError) as caught:
                await room.subscribe(feed, FakePeer())
            assert caught.value.reason == reason
            assert janus.requests[-1]["janus"] == "detach"


async def test_nobody_subscribes_to_what_is_not_there() -> None:
    async with FakeJanus() as janus, joined(janus, Listener()) as room:
        with pytest.raises(SfuError) as caught:
            await room.subscribe(FEED, FakePeer())
        assert caught.value.reason == "no-such-feed"
        assert len(janus.bodies("join")) == 1


async def test_a_feed_that_goes_takes_its_subscription_along() -> None:
    async with FakeJanus() as janus:
        listener, peer = Listener(), FakePeer()
        async with joined(janus, listener) as room:
            await janus.tell(janus.handle(), publishers=[PUBLISHER])
            await listener.wait(1)
            await room.subscribe(FEED, peer)
            await janus.tell(janus.handle(), leaving="f1")
            await listener.wait_for("gone", "f1")
            async with asyncio.timeout(20):
                await peer.closed.wait()


async def test_a_feed_that_goes_while_it_is_subscribed_to() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener) as room:
            await janus.tell(janus.handle(), publishers=[PUBLISHER])
            await listener.wait(1)
            started = asyncio.Event()
            janus.script["start"] = lambda message: started.set()
            subscribing = asyncio.create_task(room.subscribe(FEED, FakePeer()))
            await started.wait()
            transaction = janus.requests[-1]["transaction"]
            await janus.tell(janus.handle(), unpublished="f1")
            plugindata = {"plugin": "janus.plugin.videoroom", "data": {"started": "ok"}}
            await janus.send({"janus": "event", "transaction": transaction, "plugindata": plugindata})
            with pytest.raises(SfuError) as caught:
                await subscribing
            assert caught.value.reason == "no-such-feed"


async def test_a_subscription_that_hangs_up_is_offered_anew() -> None:
    async with FakeJanus() as janus:
        listener, peer = Listener(), FakePeer()
        async with joined(janus, listener) as room:
            await janus.tell(janus.handle(), publishers=[PUBLISHER])
            await listener.wait(1)
            await room.subscribe(FEED, peer)
            await janus.send({"janus": "hangup", "sender": janus.handle(index=1)})
            assert await listener.wait(3) == [("published", FEED), ("gone", "f1"), ("published", FEED)]
            await room.subscribe(FEED, FakePeer())
            async with asyncio.timeout(20):
                await peer.closed.wait()


# --- the bus ----------------------------------------------------------------------------------------


def message(text: str, source: str = "bob") -> dict[str, Any]:
    return {"textroom": "message", "room": "lab", "from": source, "text": text, "date": "now"}


async def test_the_bus_carries_messages_both_ways() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener) as room:
            large = bytes(range(256)) * 200
            await room.broadcast(large)
            sent = [m for m in janus.channel if m["textroom"] == "message"]
            assert [m["text"] for m in sent] == bus.chunk(large)
            assert all(m["ack"] is False and m["room"] == "lab" for m in sent)
            (link,) = janus.links
            for packet in bus.chunk(large):
                link.tell(message(packet))
            assert listener.told == [("message", "bob", large)]


async def test_our_own_messages_come_back_and_are_dropped() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            janus.links[0].tell(message(bus.chunk(b"x")[0], "alice"))
        assert listener.told == []


async def test_what_the_bus_refuses_is_told_with_its_source() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            (link,) = janus.links
            link.tell(message("not base64"))
            link.tell(message(""))
            link.tell(message("x" * (bus.MAX_TEXT + 1)))
            link.tell({**message("x"), "text": 5})
        assert listener.told == [
            ("refused", "bob", "packet-encoding"),
            ("refused", "bob", "sfu-malformed"),
            ("refused", "bob", "sfu-malformed"),
            ("refused", "bob", "sfu-malformed"),
        ]


async def test_unfinished_messages_are_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "PENDING_LIFE", 0.0)
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            janus.links[0].tell(message(bus.chunk(bytes(20_000))[0]))
            assert await listener.wait(1) == [("refused", "bob", "chunk-timeout")]


async def test_members_leave() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            (link,) = janus.links
            first, second = bus.chunk(bytes(20_000))
            link.tell(message(first))
            link.tell({"textroom": "leave", "room": "lab", "username": "bob"})
            link.tell(message(second))
            link.tell({"textroom": "kicked", "room": "lab", "username": "carol"})
        assert listener.told == [("left", "bob"), ("left", "carol")]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"textroom": "kicked", "username": "alice"}, "bus-closed"),
        ({"textroom": "leave", "username": "alice"}, "bus-closed"),
        ({"textroom": "destroyed", "room": "lab"}, "bus-destroyed"),
    ],
)
async def test_being_put_off_the_bus_is_a_loss(event: dict[str, Any], reason: str) -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            janus.links[0].tell(event)
        assert listener.told == [("lost", reason)]


@pytest.mark.parametrize(
    ("size", "reason"), [(0, "message-empty"), (bus.MAX_MESSAGE + 1, "message-too-large")]
)
async def test_what_cannot_be_broadcast(size: int, reason: str) -> None:
    async with FakeJanus() as janus, joined(janus, Listener()) as room:
        with pytest.raises(SfuError) as caught:
            await room.broadcast(bytes(size))
        assert caught.value.reason == reason
        assert [m["textroom"] for m in janus.channel] == ["join"]


@hypothesis.settings(deadline=None, max_examples=40)
@given(
    st.text(max_size=50)
    | VALUES.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["textroom", "transaction", "from", "text", "username", "error", "error_code"]),
        VALUES | st.sampled_from(["message", "leave", "kicked", "destroyed", "error", "success", "1", "bob"]),
    ).map(json.dumps)
)
def test_no_text_crashes_the_bus(text: str) -> None:
    async def attack() -> None:
        async with FakeJanus() as janus, joined(janus, Listener()):
            janus.links[0].text(text)

    asyncio.run(attack())


async def test_a_room_is_for_one_stay() -> None:
    async with FakeJanus() as janus:
        room = JanusRoom(settings(janus), Listener(), janus.link)
        with pytest.raises(SfuError) as caught:
            await room.publish("door", FakePeer())
        assert caught.value.reason == "not-in-room"
        await room.leave()
