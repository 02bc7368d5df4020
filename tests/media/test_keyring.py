"""One counter a key, one key a KID, and no way back to a retired one."""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
import sys
import threading
import time
from typing import Any

import pytest

from dongled.media.errors import FrameRejected, MediaError
from dongled.media.keyring import (
    MAX_GENERATIONS,
    KeyRefused,
    KeyRing,
    SealingKey,
    UnknownKey,
    commit_base_key,
)
from support.frames import Generation

SESSION = bytes(range(16))
SIGNER = bytes(range(32))


def sealing(generation: Generation, **changes: Any) -> SealingKey:
    arguments: dict[str, Any] = {
        "kid": generation.kid,
        "base_key": generation.base_key,
        "signing_key": generation.signing_key,
        "suite": generation.suite,
        "session": SESSION,
    }
    return SealingKey(**(arguments | changes))


def install(ring: KeyRing, generation: Generation, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "kid": generation.kid,
        "base_key": generation.base_key,
        "verify_key": generation.verify_key,
        "suite": generation.suite,
    }
    ring.install(**(arguments | changes))


def refusal(ring: KeyRing, kid: int) -> str:
    with pytest.raises(FrameRejected) as refused:
        ring.find(kid)
    return refused.value.reason


def test_commitment_is_hkdf_as_written() -> None:
    base_key, kid = os.urandom(64), 0x0102030405060708
    extracted = hmac.digest(b"dongled/1 commit", base_key, hashlib.sha256)
    expanded = hmac.digest(extracted, bytes(range(1, 9)) + SESSION + SIGNER + b"\x01", hashlib.sha256)
    assert commit_base_key(base_key, kid, SESSION, SIGNER) == expanded


def test_commitment_binds_key_kid_session_and_signer() -> None:
    base_key = os.urandom(64)
    commits = {
        commit_base_key(base_key, 1, SESSION, SIGNER),
        commit_base_key(base_key, 2, SESSION, SIGNER),
        commit_base_key(base_key, 1, SESSION[::-1], SIGNER),
        commit_base_key(base_key[::-1], 1, SESSION, SIGNER),
        commit_base_key(base_key, 1, SESSION, SIGNER[::-1]),
    }
    assert len(commits) == 5


@pytest.mark.property("P11")
def test_counters_are_handed_out_once_whoever_asks() -> None:
    key, taken = sealing(Generation()), list[int]()

    def let_others_run(*_: Any) -> Any:
        time.sleep(0)
        return let_others_run

    def take() -> None:
        sys.settrace(let_others_run)  # so that threads change between any two lines
        try:
            taken.extend(key.take_ctr() for _ in range(100))
        finally:
            sys.settrace(None)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(400))
    assert key.next_ctr == 400


@pytest.mark.property("P11")
def test_a_base_key_gets_one_counter_in_a_process() -> None:
    generation = Generation()
    sealing(generation)
    for changes in ({}, {"kid": 2}, {"session": SESSION[::-1]}, {"signing_key": os.urandom(32)}):
        with pytest.raises(KeyRefused) as refused:
            sealing(generation, **changes)
        assert refused.value.reason == "key-used"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kid": -1}, "kid-range"),
        ({"kid": 2**64}, "kid-range"),
        ({"base_key": bytes(63)}, "base-key-size"),
        ({"base_key": bytes(32)}, "base-key-size"),
        ({"base_key": b""}, "base-key-size"),
        ({"suite": 4}, "base-key-size"),
        ({"suite": 1}, "suite-refused"),
        ({"suite": 0}, "suite-refused"),
    ],
)
@pytest.mark.property("P10")
def test_bad_parameters_are_refused_on_both_sides(changes: dict[str, Any], reason: str) -> None:
    ring = KeyRing(SESSION)
    with pytest.raises(MediaError) as refused:
        sealing(Generation(), **changes)
    assert refused.value.reason == reason
    with pytest.raises(MediaError) as refused:
        install(ring, Generation(), **changes)
    assert refused.value.reason == reason
    assert ring.kids == []


def test_bad_signature_keys_are_refused() -> None:
    generation = Generation()
    with pytest.raises(KeyRefused) as refused:
        sealing(generation, signing_key=bytes(31))
    assert refused.value.reason == "signing-key"
    with pytest.raises(KeyRefused) as refused:
        install(KeyRing(SESSION), generation, verify_key=bytes(33))
    assert refused.value.reason == "verify-key"
    sealing(generation)  # what was refused did not spend the base key


@pytest.mark.property("P11")
def test_a_kid_keeps_its_first_key() -> None:
    ring, first, other = KeyRing(SESSION), Generation(kid=7), Generation(kid=7)
    install(ring, first)
    key = ring.find(7)
    install(ring, first)
    assert ring.find(7) is key
    for changes in (
        {"base_key": other.base_key},
        {"verify_key": other.verify_key},
        {"base_key": bytes(32), "suite": 4},
    ):
        with pytest.raises(KeyRefused) as refused:
            install(ring, first, **changes)
        assert refused.value.reason == "kid-conflict"
    assert ring.find(7) is key
    assert ring.commit(7) == commit_base_key(first.base_key, 7, SESSION, first.verify_key)
    assert ring.commit(8) is None


@pytest.mark.property("P11")
def test_retired_keys_never_come_back() -> None:
    ring, generations = KeyRing(SESSION), [Generation(kid=kid) for kid in (1, 2, 3)]
    for generation in generations:
        install(ring, generation)
    ring.forget(3)
    assert ring.kids == [3]
    assert [refusal(ring, kid) for kid in (1, 2, 4)] == ["retired-key", "retired-key", "unknown-key"]
    ring.forget(2)
    assert ring.floor == 3
    for generation in generations[:2]:
        with pytest.raises(KeyRefused) as refused:
            install(ring, generation)
        assert refused.value.reason == "kid-retired"


@pytest.mark.property("P11")
def test_a_key_granted_again_keeps_its_window() -> None:
    ring, generation = KeyRing(SESSION), Generation(kid=4)
    install(ring, generation)
    ring.find(4).window.commit(10)
    ring.forget()
    assert ring.kids == []
    assert ring.commit(4) is None
    assert refusal(ring, 4) == "unknown-key"
    with pytest.raises(KeyRefused) as refused:
        install(ring, Generation(kid=4))
    assert refused.value.reason == "kid-conflict"
    install(ring, generation)
    with pytest.raises(FrameRejected) as replayed:
        ring.find(4).window.check(10)
    assert replayed.value.reason == "replay"


def test_a_flood_of_generations_retires_the_oldest() -> None:
    ring = KeyRing(SESSION)
    for kid in range(10, 10 + 3 * MAX_GENERATIONS):
        install(ring, Generation(kid=kid))
        assert len(ring.kids) <= MAX_GENERATIONS
    assert ring.kids == list(range(10 + 2 * MAX_GENERATIONS, 10 + 3 * MAX_GENERATIONS))
    with pytest.raises(KeyRefused) as refused:
        install(ring, Generation(kid=5))
    assert refused.value.reason == "kid-retired"


def test_a_flood_leaves_no_room_for_an_older_one() -> None:
    ring = KeyRing(SESSION)
    for kid in range(10, 10 + MAX_GENERATIONS):
        install(ring, Generation(kid=kid))
    with pytest.raises(KeyRefused) as refused:
        install(ring, Generation(kid=5))
    assert refused.value.reason == "kid-retired"
    assert ring.kids[0] == 10


def test_an_unknown_key_says_which() -> None:
    with pytest.raises(UnknownKey) as refused:
        KeyRing(SESSION).find(9)
    assert (refused.value.kid, refused.value.reason) == (9, "unknown-key")


@pytest.mark.property("P1")
def test_no_key_is_printed_or_pickled() -> None:
    generation = Generation()
    key, ring = sealing(generation), KeyRing(SESSION)
    install(ring, generation)
    opening = ring.find(1)
    things = (key, key.sframe, key.signer, opening, opening.sframe, ring, vars(ring))
    printed = "".join(f"{thing!r}{thing!s}" for thing in things)
    for secret in (generation.base_key, generation.signing_key):
        assert secret.hex() not in printed
        assert repr(secret)[2:-1] not in printed
    for thing in (key, opening.sframe, ring):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
