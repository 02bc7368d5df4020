"""Janus's transactions by hand: what is sent, what ends a transaction, what time does."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sfu.test_wire import VALUES
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.errors import VIDEOROOM
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.sfu.janus.transactions import (
    ANSWER_WITHIN,
    KEEPALIVE_EVERY,
    MAX_OUTSTANDING,
    Answered,
    Failed,
    HandleEvent,
    Ignored,
    Lost,
    Transactions,
)
from dongled.agent.sfu.janus.wire import Jsep

SETTINGS = JanusSettings("ws://sfu", "room", token="tok-3n", api_secret="s3cr3t", room_pin="p1n")


def plugin(transaction: str, kind: str = "event", package: str = VIDEOROOM, **data: Any) -> dict[str, Any]:
    return {
        "janus": kind,
        "transaction": transaction,
        "sender": 2,
        "plugindata": {"plugin": package, "data": data},
    }


def take(machine: Transactions, message: dict[str, Any]) -> object:
    return machine.receive(json.dumps(message))


def in_session(now: float = 0) -> Transactions:
    machine = Transactions(SETTINGS, now)
    transaction, _ = machine.request("create", now)
    outcome = take(machine, {"janus": "success", "transaction": transaction, "data": {"id": 1}})
    assert outcome == Answered(transaction, 1, {}, None)
    return machine


def ask(machine: Transactions, now: float = 0) -> str:
    return machine.request("message", now, handle=2, expect=VIDEOROOM, body={})[0]


def test_every_request_carries_the_secrets_and_the_session() -> None:
    machine = in_session()
    transaction, text = machine.request("message", 0, handle=2, expect=VIDEOROOM, body={"request": "x"})
    assert json.loads(text) == {
        "janus": "message",
        "transaction": transaction,
        "token": "tok-3n",
        "apisecret": "s3cr3t",
        "session_id": 1,
        "handle_id": 2,
        "body": {"request": "x"},
    }


def test_no_secret_no_field() -> None:
    _, text = Transactions(JanusSettings("ws://sfu", "room"), 0).request("create", 0)
    assert json.loads(text).keys() == {"janus", "transaction"}


def test_an_ack_announces_the_answer_that_an_event_brings() -> None:
    machine = in_session()
    transaction = ask(machine)
    assert take(machine, {"janus": "ack", "transaction": transaction}) is None
    message = plugin(transaction, videoroom="joined") | {"jsep": {"type": "offer", "sdp": "v=0"}}
    assert take(machine, message) == Answered(
        transaction, 0, {"videoroom": "joined"}, Jsep("offer", "v=0", False)
    )
    assert isinstance(take(machine, message), Ignored), "a transaction ends once"


def test_a_plugin_may_answer_at_once() -> None:
    machine = in_session()
    transaction = ask(machine)
    outcome = take(machine, plugin(transaction, "success", exists=True))
    assert outcome == Answered(transaction, 0, {"exists": True}, None)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"janus": "error", "error": {"code": 403, "reason": "no"}}, "unauthorized"),
        ({"janus": "error", "error": {"code": 458, "reason": "no"}}, "no-such-session"),
        ({"janus": "error", "error": "no"}, "sfu-malformed"),
        ({"janus": "error"}, "sfu-malformed"),
        ({"janus": "error", "error": {"code": "403", "reason": "no"}}, "sfu-malformed"),
        ({"janus": "event"}, "sfu-malformed"),
        ({"janus": "surprise"}, "sfu-malformed"),
        (plugin("", error_code=433, error="wrong pin"), "room-unauthorized"),
        (plugin("", error_code=1, error="?"), "janus-error"),
        (plugin("", error_code=None, error="?"), "sfu-malformed"),
        (plugin("", package="janus.plugin.echotest"), "sfu-malformed"),
        ({"janus": "event", "plugindata": {"plugin": VIDEOROOM, "data": []}}, "sfu-malformed"),
        (plugin("") | {"jsep": {"type": "offer"}}, "sfu-malformed"),
    ],
)
def test_refusals_and_nonsense_fail_the_transaction(message: dict[str, Any], reason: str) -> None:
    machine = in_session()
    transaction = ask(machine)
    outcome = take(machine, message | {"transaction": transaction})
    assert isinstance(outcome, Failed)
    assert (outcome.transaction, outcome.error.reason) == (transaction, reason)
    assert isinstance(take(machine, plugin(transaction)), Ignored)


def test_an_error_never_shows_a_secret_that_the_sfu_sends_back() -> None:
    machine = in_session()
    transaction = ask(machine)
    outcome = take(machine, plugin(transaction, error_code=433, error="not s3cr3t, tok-3n, p1n"))
    assert isinstance(outcome, Failed)
    assert "not ***, ***, ***" in str(outcome.error)


def test_secrets_are_in_no_repr() -> None:
    for secret in ("s3cr3t", "tok-3n", "p1n"):
        assert secret not in repr(SETTINGS)


@pytest.mark.parametrize("identity", [None, "5", -1, 1.5, True])
def test_a_session_needs_a_number(identity: object) -> None:
    machine = Transactions(SETTINGS, 0)
    transaction, _ = machine.request("create", 0)
    outcome = take(machine, {"janus": "success", "transaction": transaction, "data": {"id": identity}})
    assert isinstance(outcome, Failed)


def test_a_handles_events_come_without_transaction() -> None:
    machine = in_session()
    event = plugin("x", videoroom="event", leaving=5)
    del event["transaction"]
    assert take(machine, event) == HandleEvent(2, "event", {"videoroom": "event", "leaving": 5}, None)
    assert take(machine, {"janus": "hangup", "sender": 2}) == HandleEvent(2, "hangup", {}, None)
    assert isinstance(take(machine, {"janus": "hangup"}), Ignored)
    assert isinstance(take(machine, {"janus": "event", "sender": 2}), Ignored)
    assert isinstance(take(machine, plugin("777")), Ignored)


def test_the_sessions_end_is_told() -> None:
    assert take(in_session(), {"janus": "timeout", "session_id": 1}) == Lost("session-timeout")


def test_an_answer_that_does_not_come() -> None:
    machine = in_session()
    transaction = ask(machine, 1)
    assert machine.poll(1 + ANSWER_WITHIN - 0.001)[1] == []
    (outcome,) = machine.poll(1 + ANSWER_WITHIN)[1]
    assert isinstance(outcome, Failed)
    assert (outcome.transaction, outcome.error.reason) == (transaction, "sfu-timeout")
    assert isinstance(take(machine, plugin(transaction)), Ignored), "too late"


def test_an_ack_is_no_answer() -> None:
    machine = in_session()
    take(machine, {"janus": "ack", "transaction": ask(machine)})
    assert len(machine.poll(ANSWER_WITHIN)[1]) == 1


def test_keepalives_only_when_nothing_else_was_said() -> None:
    machine = in_session()
    assert machine.next_due() == KEEPALIVE_EVERY
    machine.forget(ask(machine, 3))
    assert machine.poll(KEEPALIVE_EVERY) == ([], [])
    assert machine.next_due() == 3 + KEEPALIVE_EVERY
    ((text,), outcomes) = machine.poll(3 + KEEPALIVE_EVERY)
    assert outcomes == []
    keepalive = json.loads(text)
    assert keepalive["janus"] == "keepalive"
    assert keepalive["session_id"] == 1
    assert take(machine, {"janus": "ack", "transaction": keepalive["transaction"]}) is None
    assert machine.poll(3 + KEEPALIVE_EVERY + ANSWER_WITHIN - 0.001)[1] == []


def test_an_unanswered_keepalive_is_the_end() -> None:
    machine = in_session()
    machine.poll(KEEPALIVE_EVERY)
    assert machine.poll(KEEPALIVE_EVERY + ANSWER_WITHIN)[1] == [Lost("sfu-silent")]


def test_a_refused_keepalive_is_the_end() -> None:
    machine = in_session()
    ((text,), _) = machine.poll(KEEPALIVE_EVERY)
    refusal = {"janus": "error", "error": {"code": 458, "reason": "No such session"}}
    outcome = take(machine, refusal | {"transaction": json.loads(text)["transaction"]})
    assert outcome == Lost("no-such-session")


def test_no_keepalive_without_a_session() -> None:
    machine = Transactions(SETTINGS, 0)
    assert machine.next_due() == float("inf")
    assert machine.poll(1000) == ([], [])


def test_outstanding_requests_are_limited() -> None:
    machine = in_session()
    for _ in range(MAX_OUTSTANDING):
        ask(machine)
    with pytest.raises(SfuError) as caught:
        ask(machine)
    assert caught.value.reason == "sfu-busy"


KINDS = st.sampled_from(["ack", "success", "event", "error", "timeout", "hangup", "webrtcup", ""])


@hypothesis.settings(deadline=None)
@given(
    st.lists(
        st.text(max_size=50)
        | VALUES.map(json.dumps)
        | st.fixed_dictionaries(
            {"janus": KINDS | VALUES},
            optional={
                "transaction": st.sampled_from(["1", "2", "3"]) | VALUES,
                "sender": VALUES,
                "data": VALUES,
                "error": VALUES,
                "jsep": VALUES,
                "plugindata": VALUES | st.fixed_dictionaries({"plugin": st.just(VIDEOROOM), "data": VALUES}),
            },
        ).map(json.dumps),
        max_size=5,
    )
)
def test_nothing_that_an_sfu_sends_crashes_it(texts: list[str]) -> None:
    machine = in_session()
    ask(machine)
    machine.poll(KEEPALIVE_EVERY)
    for text in texts:
        outcome = machine.receive(text)
        assert outcome is None or isinstance(outcome, Answered | Failed | HandleEvent | Lost | Ignored)
