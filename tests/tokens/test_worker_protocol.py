"""What passes between broker and worker, and what each makes of nonsense."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import cbor2
import pkcs11.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.tokens import describe
from dongled.tokens.errors import TokenError
from dongled.tokens.failures import PIN_REFUSED, POISONED, ModuleFault
from dongled.tokens.softhsm import find_module
from dongled.tokens.wire import HEADER_BYTES, MAX_MESSAGE_BYTES, WireError, body_length, frame, parse


@given(st.integers(0, 2**32), st.dictionaries(st.text(), st.binary() | st.integers() | st.text()))
def test_messages_survive(number: int, args: dict[str, bytes | int | str]) -> None:
    message = {"id": number, "op": "sign", "args": args}
    framed = frame(message)
    assert body_length(framed[:HEADER_BYTES]) == len(framed) - HEADER_BYTES
    assert parse(framed[HEADER_BYTES:]) == message


@given(st.binary(max_size=200))
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        cbor2.dumps({"id": 1}) + b"\x00",
        cbor2.dumps({"id": "1"}),
        cbor2.dumps([1]),
        cbor2.dumps({"op": "sign"}),
        b"\x81" * 5000,
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        parse(body)


@pytest.mark.parametrize("length", [0, MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_lengths_are_bounded(length: int) -> None:
    with pytest.raises(WireError):
        body_length(length.to_bytes(4, "big"))
    with pytest.raises(WireError):
        frame({"id": 1, "ok": bytes(MAX_MESSAGE_BYTES)})


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xff",
        frame({"id": 1, "op": "__init__", "args": {"path": "/x"}}),
        frame({"id": 1, "op": "_token", "args": {}}),
        frame({"id": 1, "op": "tokens"}),
        frame({"id": 1, "op": "tokens", "args": {}, "more": 1}),
        frame({"id": 1, "op": ["tokens"], "args": {}}),
        frame({"id": 1, "op": "tokens", "args": {}})[:-1],
    ],
)
def test_a_worker_ends_on_nonsense(store: object, request_bytes: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "dongled.tokens.worker",
             str(theirs.fileno()), find_module(), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
        )  # fmt: skip
        theirs.close()
        greeting = ours.recv(1000)
        assert parse(greeting[HEADER_BYTES:]) == {"id": 0, "ok": None}
        ours.sendall(request_bytes)
        ours.shutdown(socket.SHUT_WR)
        assert ours.recv(1000) == b""
        assert worker.wait(10) == 70


def test_wrong_arguments_are_a_fault_and_not_the_end(store: object) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "dongled.tokens.worker",
             str(theirs.fileno()), find_module(), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
        )  # fmt: skip
        theirs.close()
        ours.recv(1000)
        for number, (operation, arguments) in enumerate(
            [("login", {"pin": "731955"}), ("sign", {"serial": "x", "key": b"", "digest": 7})], 1
        ):
            ours.sendall(frame({"id": number, "op": operation, "args": arguments}))
            answer = parse(ours.recv(1000)[HEADER_BYTES:])
            assert answer["id"] == number
            assert "fault" in answer
            assert "731955" not in repr(answer)
        ours.close()
        assert worker.wait(10) == 0


def test_every_exception_of_the_bindings_becomes_an_error_with_a_hint() -> None:
    names = {
        name
        for name, value in vars(pkcs11.exceptions).items()
        if isinstance(value, type) and issubclass(value, pkcs11.exceptions.PKCS11Error)
    }
    # A name that the bindings no longer have would never match again.
    assert names >= PIN_REFUSED | POISONED
    for name in names:
        fault = ModuleFault(name, "text")
        assert fault.reason
        assert fault.hint
        assert fault.reason != "token-fault" or name in str(fault)
    for name in PIN_REFUSED:
        assert ModuleFault(name, "").reason.startswith("pin-")


@pytest.mark.parametrize(
    "answer",
    [None, {}, [1], [{}], [{"id": "x"}], [{"id": b"", "label": "", "point": b"\x04", "attributes": {}}]],
)
def test_a_module_that_answers_nonsense_is_at_fault(answer: object) -> None:
    for read in (describe.tokens, describe.keys, describe.certificates):
        with pytest.raises(TokenError) as refusal:
            read(answer)
        assert refusal.value.reason == "token-fault"
    with pytest.raises(TokenError):
        describe.octets(answer, 32)
