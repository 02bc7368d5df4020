"""Against RFC 9605 as libwebrtc has it (PyPI ``wrtc``), which numbers the suites as IANA does."""

from __future__ import annotations

import os

import pytest
import wrtc  # type: ignore[import-not-found]  # a compiled module without stubs
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.media import sframe
from dongled.media.errors import FrameRejected
from support import frames

U64 = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
SUITE = st.sampled_from([4, 5])
BYTES = st.one_of(st.binary(max_size=64), st.integers(0, 20_000).map(os.urandom))


@given(kid=U64, ctr=U64)
def test_headers_agree(kid: int, ctr: int) -> None:
    encoded = sframe.encode_header(kid, ctr)
    assert bytes(wrtc._sframeHeader(kid, ctr)) == encoded
    assert wrtc._sframeParseHeader(encoded) == sframe.parse_header(encoded)


@given(suite=SUITE, kid=U64, base_key=st.binary(min_size=16, max_size=64))
def test_derivation_agrees(suite: int, kid: int, base_key: bytes) -> None:
    ours = sframe.derive_key_salt(sframe.suite_of(suite), base_key, kid)
    assert tuple(map(bytes, wrtc._sframeDerive(suite, base_key, kid))) == ours


@settings(deadline=None)
@given(suite=SUITE, kid=U64, ctr=U64, metadata=st.binary(max_size=100), plaintext=BYTES)
def test_sealed_here_opens_there_and_back(
    suite: int, kid: int, ctr: int, metadata: bytes, plaintext: bytes
) -> None:
    base_key = os.urandom(64)
    key = sframe.derive(suite, base_key, kid)

    sealed = sframe.seal(key, ctr, metadata, plaintext)
    assert bytes(wrtc._sframeDecrypt(suite, base_key, metadata, sealed)) == plaintext

    theirs = bytes(wrtc._sframeEncrypt(suite, base_key, kid, ctr, metadata, plaintext))
    assert theirs == sealed
    assert sframe.open(key, sframe.parse_header(theirs), metadata, theirs) == plaintext


@pytest.mark.parametrize("suite", [4, 5])
def test_their_frame_transform(suite: int) -> None:
    base_key, kid = os.urandom(64), 77
    key = sframe.derive(suite, base_key, kid)
    out, back = wrtc.SFrameTransform(suite, True), wrtc.SFrameTransform(suite, False)
    assert out.setEncryptionKey(base_key, kid)
    assert back.addDecryptionKey(base_key, kid)
    for ctr in range(12):
        theirs = bytes(out.encrypt(b"frame %d" % ctr))
        header = sframe.parse_header(theirs)
        assert (header.kid, header.ctr) == (kid, ctr)
        assert sframe.open(key, header, b"", theirs) == b"frame %d" % ctr
        assert bytes(back.decrypt(sframe.seal(key, ctr, b"", b"frame %d" % ctr))[0]) == b"frame %d" % ctr


@pytest.mark.property("P11")
def test_both_refuse_what_was_changed() -> None:
    base_key = os.urandom(64)
    key = sframe.derive(5, base_key, 9)
    sealed = bytearray(sframe.seal(key, 300, b"metadata", b"plaintext"))
    sealed[-1] ^= 1
    assert wrtc._sframeDecrypt(5, base_key, b"metadata", bytes(sealed)) is None
    with pytest.raises(FrameRejected) as refused:
        sframe.open(key, sframe.parse_header(bytes(sealed)), b"metadata", bytes(sealed))
    assert refused.value.reason == "tag"


@pytest.mark.parametrize("suite", [4, 5])
def test_whole_frames_both_ways(suite: int) -> None:
    generation, context = frames.Generation(kid=1000, suite=suite), frames.context()
    here, there = frames.sealer(generation), frames.opener(generation)
    for ctr, frame in enumerate([frames.key_frame(), frames.delta_frame(), frames.delta_frame(b"x")]):
        size = 10 if ctr == 0 else 1
        clear, rest = frame[:size], frame[size:]
        wire = here.seal(frame)
        assert wire[:size] == clear
        opened = frames.open_elsewhere(generation, clear, wire[size:], context)
        assert opened is not None
        assert opened[:-64] == rest
        generation.signer.public_key().verify(
            opened[-64:], frames.statement(context, clear, rest, generation.kid, ctr)
        )
        signature = generation.signer.sign(frames.statement(context, clear, rest, generation.kid, ctr))
        theirs = frames.seal_elsewhere(generation, clear, rest + signature, ctr, context)
        assert theirs == wire  # Ed25519 is deterministic, so nothing is left to chance
        assert there.open(theirs).data == frame
