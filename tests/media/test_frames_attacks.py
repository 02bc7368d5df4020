"""Frames that must not get through, by who sends them: the SFU, another holder of the key, another stream."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.media import rules, sframe
from dongled.media.errors import FrameRejected, MediaError
from dongled.media.frames import FrameOpener, FrameSealer
from dongled.media.keyring import UnknownKey
from support import frames
from support.frames import Generation

CONTEXT = frames.context()
KEY, DELTA = frames.key_frame(), frames.delta_frame()


def reason(there: FrameOpener, wire: bytes) -> str:
    with pytest.raises(FrameRejected) as refused:
        there.open(wire)
    return refused.value.reason


def forged(
    generation: Generation,
    frame: bytes,
    *,
    ctr: int = 0,
    sign: Callable[[bytes], bytes] | None = None,
    signed_ctr: int | None = None,
    signed_kid: int | None = None,
    signed_clear: bytes | None = None,
    signed_rest: bytes | None = None,
) -> bytes:
    """What a holder of the base key can send; ``signed_*`` is what the signature was made over instead."""
    size = 10 if frame[0] & 1 == 0 else 1
    clear, rest = frame[:size], frame[size:]
    statement = frames.statement(
        CONTEXT,
        clear if signed_clear is None else signed_clear,
        rest if signed_rest is None else signed_rest,
        generation.kid if signed_kid is None else signed_kid,
        ctr if signed_ctr is None else signed_ctr,
    )
    signature = (sign or generation.signer.sign)(statement)
    return frames.seal_elsewhere(generation, clear, rest + signature, ctr, CONTEXT)


# --- P1: what the SFU sees -------------------------------------------------------------------------


@pytest.mark.property("P1")
@pytest.mark.parametrize("suite", [4, 5])
def test_the_clear_prefix_is_all_that_shows(suite: int) -> None:
    here = frames.sealer(Generation(suite=suite))
    encoded = frames.encoded_vp8()
    wires = [here.seal(frame) for frame in encoded]
    sealed = {frame[at : at + 16] for frame in encoded for at in range(len(frame) - 15)}

    def found(sent: list[bytes]) -> int:
        return sum(data[at : at + 16] in sealed for data in sent for at in range(len(data) - 15))

    assert found(list(encoded)) > 10_000  # the search itself works
    assert found(wires) == 0
    for frame, wire in zip(encoded, wires, strict=True):
        size = 10 if frame[0] & 1 == 0 else 1
        assert wire[:size] == frame[:size]
        assert sframe.parse_header(wire[size:]).kid == 1
        shared = sum(a == b for a, b in zip(frame[size:], wire[size:], strict=False))
        assert shared < 0.05 * len(frame) + 10


@pytest.mark.property("P1")
def test_equal_frames_look_unlike() -> None:
    here = frames.sealer(Generation())
    assert len({here.seal(KEY)[11:] for _ in range(50)}) == 50


@pytest.mark.property("P1")
def test_without_the_key_nothing_opens() -> None:
    generation = Generation()
    wire = frames.sealer(generation).seal(KEY)
    assert reason(frames.opener(), wire) == "unknown-key"
    assert reason(frames.opener(Generation(signer=generation.signer)), wire) == "tag"


@pytest.mark.property("P1")
def test_a_decoder_makes_nothing_of_sealed_frames() -> None:
    here, encoded = frames.sealer(Generation()), list(frames.encoded_vp8())
    assert frames.decode_vp8(encoded) == len(encoded)
    control = frames.decode_vp8_pictures(encoded)
    watched = frames.decode_vp8_pictures([here.seal(frame) for frame in encoded])
    assert all(frames.psnr(a, b) < 20 for a in watched for b in control)


# --- P8: a viewer who holds the key ----------------------------------------------------------------


@pytest.mark.property("P8")
@pytest.mark.parametrize("suite", [4, 5])
def test_the_forging_kit_makes_good_frames(suite: int) -> None:
    generation = Generation(suite=suite, kid=20)
    assert frames.opener(generation).open(forged(generation, KEY, ctr=5)).data == KEY


@pytest.mark.property("P8")
def test_a_viewer_signs_with_its_own_key() -> None:
    generation, viewer = Generation(), Generation()
    assert reason(frames.opener(generation), forged(generation, KEY, sign=viewer.signer.sign)) == "signature"


@pytest.mark.property("P8")
@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64, b"\x01" + bytes(63)])
def test_a_viewer_makes_up_a_signature(signature: bytes) -> None:
    generation = Generation()
    assert reason(frames.opener(generation), forged(generation, KEY, sign=lambda _: signature)) == "signature"


@pytest.mark.property("P8")
@pytest.mark.parametrize("size", [0, 1, 63])
def test_a_viewer_sends_no_whole_signature(size: int) -> None:
    generation = Generation()
    wire = frames.seal_elsewhere(generation, KEY[:10], bytes(size), 0, CONTEXT)
    assert reason(frames.opener(generation), wire) == "malformed"


@pytest.mark.property("P8")
def test_a_viewer_reuses_a_genuine_signature() -> None:
    generation = Generation()
    there = frames.opener(generation)
    for wire in (
        forged(generation, KEY, ctr=7, signed_ctr=6),
        forged(generation, KEY, signed_kid=2),
        forged(generation, KEY, signed_rest=DELTA[1:]),
        forged(generation, KEY, signed_rest=b""),
        forged(generation, KEY, signed_clear=DELTA[:1]),
        forged(generation, DELTA, signed_clear=b"\x11"),
    ):
        assert reason(there, wire) == "signature"


@pytest.mark.property("P8")
def test_a_viewer_seals_an_old_frame_under_the_new_key() -> None:
    old = Generation(kid=1)
    new = Generation(kid=2, signer=old.signer)
    genuine = frames.sealer(old).seal(KEY)
    plaintext = frames.open_elsewhere(old, KEY[:10], genuine[10:], CONTEXT)
    assert plaintext is not None
    wire = frames.seal_elsewhere(new, KEY[:10], plaintext, 0, CONTEXT)
    assert reason(frames.opener(old, new), wire) == "signature"


@pytest.mark.property("P8")
def test_a_viewer_moves_a_frame_to_another_stream_of_the_sender() -> None:
    """Even where a sender gave two streams one base key and one signing key."""
    generation, other = Generation(), frames.context(stream="screen")
    genuine = frames.sealer(generation).seal(KEY)
    plaintext = frames.open_elsewhere(generation, KEY[:10], genuine[10:], CONTEXT)
    assert plaintext is not None
    wire = frames.seal_elsewhere(generation, KEY[:10], plaintext, 0, other)
    assert reason(frames.opener(generation, of=other), wire) == "signature"


@pytest.mark.property("P8")
@pytest.mark.parametrize("ctr", [0, 1, 3, 5000, 2**64 - 1])
def test_a_forgery_costs_the_sender_no_frame(ctr: int) -> None:
    generation, viewer = Generation(), Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    wires = [here.seal(KEY) for _ in range(4)]
    there.open(wires[0])
    assert reason(there, forged(generation, KEY, ctr=ctr, sign=viewer.signer.sign)) == "signature"
    assert there.newest == (1, 0)
    assert [there.open(wire).ctr for wire in wires[1:]] == [1, 2, 3]


# --- P10: nothing but what was agreed --------------------------------------------------------------


@pytest.mark.property("P10")
def test_plain_frames_are_never_taken() -> None:
    there = frames.opener(Generation(), Generation(kid=0), Generation(kid=2))
    for frame in (*frames.encoded_vp8(), KEY, DELTA):
        assert reason(there, frame) in {"malformed", "unknown-key", "tag"}


@pytest.mark.property("P10")
def test_a_lesser_suite_than_the_publisher_named_is_refused() -> None:
    generation = Generation(suite=5)
    lesser = Generation(suite=4, base_key=generation.base_key, signer=generation.signer)
    wire = forged(lesser, KEY)
    assert reason(frames.opener(generation), wire) == "tag"


@pytest.mark.property("P10")
def test_a_changed_codec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.RULES, "vp8bis", rules.RULES["vp8"])
    generation = Generation()
    wire = frames.sealer(generation).seal(KEY)
    assert reason(frames.opener(generation, of=frames.context(codec="vp8bis")), wire) == "tag"


@pytest.mark.property("P10")
@pytest.mark.parametrize("made", [FrameSealer, FrameOpener])
def test_a_codec_without_a_rule_gets_neither_sealer_nor_opener(made: type[FrameSealer | FrameOpener]) -> None:
    with pytest.raises(MediaError) as refused:
        made(frames.context(codec="av1"))
    assert refused.value.reason == "codec-refused"


@pytest.mark.property("P10")
@pytest.mark.parametrize("frame", [b"", b"\x01", KEY[:10], b"\x10\0\0not vp8 at all", b"\0\0\0\1\x67h264"])
def test_only_frames_of_the_codec_are_sealed(frame: bytes) -> None:
    here = frames.sealer(Generation())
    with pytest.raises(MediaError) as refused:
        here.seal(frame)
    assert refused.value.reason == "malformed"
    assert here.position is not None
    assert here.position.next_ctr == 0


# --- P11: replays, splices, damage -----------------------------------------------------------------


@pytest.mark.property("P11")
def test_a_replayed_frame_is_refused() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    wires = [here.seal(DELTA) for _ in range(3)]
    for wire in wires:
        there.open(wire)
    assert [reason(there, wire) for wire in wires] == ["replay"] * 3


@pytest.mark.property("P11")
def test_a_replay_after_the_key_was_dropped_and_granted_again_is_refused() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    wire = here.seal(DELTA)
    there.open(wire)
    there.forget()
    assert reason(there, wire) == "unknown-key"
    there.install(generation.kid, generation.base_key, generation.verify_key)
    assert reason(there, wire) == "replay"
    assert there.open(here.seal(DELTA)).ctr == 1


@pytest.mark.property("P11")
def test_a_frame_behind_the_window_is_refused() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    wires = [here.seal(DELTA) for _ in range(1026)]
    there.open(wires[1025])
    assert reason(there, wires[0]) == "too-old"
    assert reason(there, wires[1]) == "too-old"
    assert there.open(wires[2]).ctr == 2


@pytest.mark.property("P11")
@pytest.mark.parametrize(
    "changes",
    [
        {"meeting": "ward 4"},
        {"meeting": ""},
        {"session": bytes(16)},
        {"stream": "screen"},
        {"stream": "camera "},
        {"meeting": "ward 3camera", "stream": ""},
    ],
)
def test_another_streams_frame_is_refused_even_under_one_key(changes: dict[str, str | bytes]) -> None:
    generation, other = Generation(), frames.context(**changes)
    wire = frames.sealer(generation, other).seal(KEY)
    assert reason(frames.opener(generation), wire) == "tag"
    assert frames.opener(generation, of=other).open(wire).data == KEY


@pytest.mark.property("P11")
def test_a_reflected_frame_is_refused() -> None:
    """The SFU hands a terminal its own frames as its peer's."""
    mine, theirs = Generation(), Generation()
    wire = frames.sealer(mine, frames.context(session=b"m" * 16)).seal(KEY)
    assert reason(frames.opener(theirs, of=frames.context(session=b"t" * 16)), wire) == "tag"


@pytest.mark.property("P11")
def test_retired_generations_are_refused() -> None:
    old, new = Generation(kid=1), Generation(kid=2)
    context = frames.context()
    here, there = FrameSealer(context), frames.opener(old, new)
    here.use(old.kid, old.base_key, old.signing_key)
    before, late = here.seal(DELTA), here.seal(DELTA)
    here.use(new.kid, new.base_key, new.signing_key)
    there.open(before)
    there.open(here.seal(KEY))
    there.forget(below=2)
    assert reason(there, late) == "retired-key"
    assert there.open(here.seal(DELTA)).kid == 2


@pytest.mark.property("P11")
def test_an_unknown_generation_is_named_so_that_it_can_be_held() -> None:
    generation = Generation(kid=12345)
    wire, there = frames.sealer(generation).seal(KEY), frames.opener(Generation())
    with pytest.raises(UnknownKey) as refused:
        there.open(wire)
    assert refused.value.kid == 12345
    there.install(generation.kid, generation.base_key, generation.verify_key)
    assert there.open(wire).data == KEY


@pytest.mark.property("P11")
@pytest.mark.parametrize("frame", [KEY, DELTA], ids=["key", "delta"])
def test_every_flipped_bit_is_refused_and_costs_nothing(frame: bytes) -> None:
    generation = Generation(kid=300)
    wire, there = frames.sealer(generation).seal(frame), frames.opener(generation)
    seen = set[str]()
    for bit in range(8 * len(wire)):
        damaged = bytearray(wire)
        damaged[bit // 8] ^= 1 << bit % 8
        seen.add(reason(there, bytes(damaged)))
    assert seen <= {"malformed", "unknown-key", "tag"}
    assert "tag" in seen
    assert there.open(wire).data == frame


@pytest.mark.property("P11")
@pytest.mark.parametrize("frame", [KEY, DELTA], ids=["key", "delta"])
def test_every_truncation_and_extension_is_refused(frame: bytes) -> None:
    generation = Generation(kid=300)
    wire, there = frames.sealer(generation).seal(frame), frames.opener(generation)
    for size in range(len(wire)):
        assert reason(there, wire[:size]) in {"malformed", "tag"}
    assert reason(there, wire + b"\0") == "tag"
    assert reason(there, wire + wire) == "tag"
    assert there.open(wire).data == frame


@pytest.mark.property("P11")
def test_swapped_clear_prefixes_are_refused() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    small, large = here.seal(KEY), here.seal(KEY[:6] + b"\x80\x02\xe0\x01" + KEY[10:])
    delta = here.seal(DELTA)
    assert reason(there, large[:10] + small[10:]) == "tag"
    assert reason(there, small[:10] + large[10:]) == "tag"
    assert reason(there, small[:10] + delta[1:]) == "tag"
    assert reason(there, delta[:1] + small[10:]) == "tag"
    assert [there.open(wire).ctr for wire in (small, large, delta)] == [0, 1, 2]


@pytest.mark.property("P11")
def test_a_longer_header_for_the_same_numbers_is_refused() -> None:
    generation = Generation(kid=1)
    there = frames.opener(generation)
    wire = frames.sealer(generation).seal(DELTA)
    assert wire[1] == 0x10
    for header in ("8001", "900001", "1800", "880100"):
        assert reason(there, wire[:1] + bytes.fromhex(header) + wire[2:]) == "malformed"
    assert there.open(wire).data == DELTA


@pytest.mark.property("P11")
@pytest.mark.parametrize("suite", [4, 5])
def test_a_forged_counter_never_moves_the_window(suite: int) -> None:
    generation = Generation(suite=suite)
    here, there = frames.sealer(generation), frames.opener(generation)
    wires = [here.seal(DELTA) for _ in range(2)]
    for ctr in (1, 7, 8, 2000, 2**64 - 1):
        forgery = wires[0][:1] + sframe.encode_header(1, ctr) + wires[0][2:]
        assert reason(there, forgery) == "tag"
    assert there.newest is None
    assert [there.open(wire).ctr for wire in wires] == [0, 1]


@pytest.mark.property("P11")
@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: KEY[:10] + tail)))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    there = frames.opener(Generation(kid=0), Generation(kid=1), Generation(kid=7))
    assert reason(there, data) in {"malformed", "unknown-key", "tag"}


@pytest.mark.property("P11")
@settings(deadline=None, max_examples=300)
@given(data=st.data(), key=st.booleans(), plaintext=st.binary(max_size=100), ctr=st.integers(0, 2**64 - 1))
def test_whatever_a_key_holder_seals_is_refused_by_name(
    data: st.DataObject, key: bool, plaintext: bytes, ctr: int
) -> None:
    generation, clear = Generation(), KEY[:10] if key else DELTA[:1]
    wire = bytearray(frames.seal_elsewhere(generation, clear, plaintext, ctr, CONTEXT))
    if data.draw(st.booleans()):
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    assert reason(frames.opener(generation), bytes(wire)) in {"malformed", "unknown-key", "tag", "signature"}


@pytest.mark.property("P11")
def test_a_decoder_is_handed_genuine_frames_alone() -> None:
    """An SFU that damages, doubles, swaps and forges: what comes out is what was sent, in part."""
    generation, viewer = Generation(), Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    encoded = list(frames.encoded_vp8())
    decoder_got, refused = list[bytes](), list[str]()
    for number, frame in enumerate(encoded):
        wire = here.seal(frame)
        bad = bytearray(wire)
        bad[-1 - number] ^= 0x40
        forgery = forged(generation, encoded[0], ctr=5000 + number, sign=viewer.signer.sign)
        for arrived in (bytes(bad), frame, forgery, wire, wire, os.urandom(1200)):
            try:
                decoder_got.append(there.open(arrived).data)
            except FrameRejected as dropped:
                refused.append(dropped.reason)
    assert decoder_got == encoded
    assert frames.decode_vp8(decoder_got) == len(encoded)
    assert len(refused) == 5 * len(encoded)
    assert {"tag", "signature", "replay"} <= set(refused)
