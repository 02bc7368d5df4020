"""A stream's frames, sealed and opened: SFrame with the sender's signature inside.

What is sent, and what it vouches for (docs/protocol.md, Frames)::

    wire      = clear ‖ SFrame(KID, CTR, metadata, rest ‖ signature)
    metadata  = CBOR [1, meeting: tstr, session: bstr .size 16, stream: tstr, codec: tstr, clear: bstr]
    signature = Ed25519("dongled/1 frame" ‖ SHA-256(metadata) ‖ u64 KID ‖ u64 CTR ‖ SHA-256(rest)), 64 bytes

``clear ‖ rest`` is the encoded frame (its codec's rule says where it is cut), u64 is big-endian, CBOR is
core deterministic (RFC 8949, 4.2.1). The metadata is SFrame's (RFC 9605, 4.4.3): authenticated, never sent.
A codec whose rule escapes the sealed part does so in place of the first line's concatenation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import cbor2
from cryptography.exceptions import InvalidSignature

from dongled.media import sframe
from dongled.media.api import StreamContext
from dongled.media.errors import FrameRejected, MediaError
from dongled.media.keyring import KeyRefused, KeyRing, SealingKey
from dongled.media.rules import rule_for

MAX_FRAME = 4 * 1024 * 1024
"""The largest encoded or sealed frame, bytes."""

SIGNATURE_SIZE = 64

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream got: ``next_ctr`` frames of generation ``kid``, and that generation's commitment."""

    kid: int
    next_ctr: int
    commit: bytes


@dataclass(frozen=True, slots=True)
class OpenedFrame:
    """A frame that its sender is known to have made; ``data`` is what the encoder made, byte for byte."""

    data: bytes = field(repr=False)
    kid: int
    ctr: int


class _Metadata:
    """The metadata of a stream's frames, which differs in its last element alone."""

    __slots__ = ("_head",)

    def __init__(self, context: StreamContext) -> None:
        if len(context.session) != 16:
            raise ValueError("a session id has 16 bytes")
        array = [_VERSION, context.meeting, context.session, context.stream, context.codec, b""]
        self._head = cbor2.dumps(array, canonical=True)[:-1]  # without the empty string at the end

    def of(self, clear: bytes) -> bytes:
        return self._head + cbor2.dumps(clear)


def _statement(metadata: bytes, kid: int, ctr: int, rest: bytes) -> bytes:
    place = kid.to_bytes(8, "big") + ctr.to_bytes(8, "big")
    return b"dongled/1 frame" + hashlib.sha256(metadata).digest() + place + hashlib.sha256(rest).digest()


class FrameSealer:
    """Seals one stream's frames. One object a stream and session; ``seal`` and ``use`` from any thread."""

    def __init__(self, context: StreamContext) -> None:
        """Raises MediaError, ``codec-refused``, when no rule says what of a frame may stay clear."""
        self._rule = rule_for(context.codec)
        self._metadata = _Metadata(context)
        self._session = context.session
        self._key: SealingKey | None = None
        self._last_kid = -1

    def use(self, kid: int, base_key: bytes, signing_key: bytes, suite: int = 5) -> None:
        """Seal with this generation from the next frame on, which should be a key frame.

        ``base_key`` is Nh random bytes, ``signing_key`` a raw Ed25519 private key. Raises KeyRefused
        (``kid-order`` when ``kid`` does not rise, else see SealingKey); the generation before stays in use.
        """
        if kid <= self._last_kid:
            raise KeyRefused("kid-order", f"key {kid} after key {self._last_kid}: KIDs only rise")
        self._key = SealingKey(kid, base_key, signing_key, suite, self._session)
        self._last_kid = kid

    def stop(self) -> None:
        """Drop the keys: nothing is sealed until the next ``use``."""
        self._key = None

    @property
    def position(self) -> Position | None:
        """For beacons: how far the generation in use got; None without one."""
        key = self._key
        return None if key is None else Position(key.kid, key.next_ctr, key.commit)

    def seal(self, encoded: bytes) -> bytes:
        """The bytes to packetize instead of an encoded frame.

        Raises MediaError: ``no-key``, ``malformed`` (not a frame of this codec), ``too-large``.
        """
        key = self._key
        if key is None:
            raise MediaError("no-key", "no generation to seal with", "wait for the first rekey")
        clear, rest = self._rule.split(encoded)
        metadata = self._metadata.of(clear)
        ctr = key.take_ctr()
        signature = key.signer.sign(_statement(metadata, key.kid, ctr, rest))
        wire = self._rule.join(clear, sframe.seal(key.sframe, ctr, metadata, rest + signature))
        if len(wire) > MAX_FRAME:
            raise MediaError("too-large", f"a sealed frame of {len(wire)} bytes", "lower the bitrate")
        return wire


class FrameOpener:
    """Opens one peer's stream. ``open`` from one thread; ``install`` and ``forget`` from another."""

    def __init__(self, context: StreamContext) -> None:
        """Raises MediaError, ``codec-refused``."""
        self._rule = rule_for(context.codec)
        self._metadata = _Metadata(context)
        self._ring = KeyRing(context.session)
        self._newest: tuple[int, int] | None = None

    def install(self, kid: int, base_key: bytes, verify_key: bytes, suite: int = 5) -> None:
        """Add a generation; see ``KeyRing.install``."""
        self._ring.install(kid, base_key, verify_key, suite)

    def forget(self, below: int | None = None) -> None:
        """Retire every generation below ``below`` for good; None drops every key."""
        self._ring.forget(below)

    @property
    def kids(self) -> list[int]:
        """KIDs that frames can be opened under, rising."""
        return self._ring.kids

    def commit(self, kid: int) -> bytes | None:
        """The commitment of an installed generation."""
        return self._ring.commit(kid)

    @property
    def newest(self) -> tuple[int, int] | None:
        """Highest (KID, CTR) opened so far."""
        return self._newest

    def open(self, wire: bytes) -> OpenedFrame:
        """Open one received frame, or raise FrameRejected; only then may a decoder see it.

        1. ``too-large``, ``malformed``: bytes that are no sealed frame cost nothing further.
        2. ``unknown-key`` (UnknownKey, with its ``kid``), ``retired-key``: only keys that were granted.
        3. ``tag``: neither the SFU nor another meeting, session, stream or codec wrote or spliced it.
        4. ``signature``: not another holder of the key either, but the sender.
        5. ``replay``, ``too-old``: it was not opened before.
        6. Only now is its counter used up.
        """
        if len(wire) > MAX_FRAME:
            raise FrameRejected("too-large", f"a frame of {len(wire)} bytes")
        clear, sealed = self._rule.part(wire)
        header = sframe.parse_header(sealed)
        if len(sealed) < header.size + SIGNATURE_SIZE + sframe.TAG_SIZE:
            raise FrameRejected("malformed", "no room for signature and tag")

        key = self._ring.find(header.kid)

        metadata = self._metadata.of(clear)
        plaintext = sframe.open(key.sframe, header, metadata, sealed)

        rest, signature = plaintext[:-SIGNATURE_SIZE], plaintext[-SIGNATURE_SIZE:]
        try:
            key.verifier.verify(signature, _statement(metadata, header.kid, header.ctr, rest))
        except InvalidSignature:
            raise FrameRejected("signature", "sealed by a key holder who is not the sender") from None

        key.window.check(header.ctr)

        key.window.commit(header.ctr)
        self._newest = max(self._newest or (0, 0), (header.kid, header.ctr))
        return OpenedFrame(clear + rest, header.kid, header.ctr)
