"""The frame keys of one stream: the generation that a sender seals with, the few that a receiver opens with.

A generation is named by its KID, and KIDs only rise. Nothing here is ever written anywhere.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from dongled.media import sframe
from dongled.media.errors import FrameRejected, MediaError
from dongled.media.replay import ReplayWindow

MAX_GENERATIONS = 16
"""Generations that a receiver keeps of one stream; installing one more retires the oldest."""

_SPENT_KEPT = 4096


class KeyRefused(MediaError):
    """A key was not taken into use; ``reason`` says why."""


class UnknownKey(FrameRejected):
    """A frame under a generation that is not installed (``unknown-key``): it may be on its way. Hold it."""

    def __init__(self, kid: int) -> None:
        super().__init__("unknown-key", f"no key {kid} is installed")
        self.kid = kid


# docs/protocol.md, Frames
def commit_base_key(base_key: bytes, kid: int, session: bytes, verify_key: bytes) -> bytes:
    """What a sender commits to when it hands out a base key: 32 bytes that open nothing.

    HKDF-SHA-256 (RFC 5869): ``Expand(Extract(salt="dongled/1 commit", IKM=base_key), info, 32)`` where
    ``info`` is the KID as 8 bytes, big-endian, the 16-byte session id, and the raw Ed25519 key that verifies
    the frames: else two receivers could be given one key and two signers, and be shown two videos.
    """
    secret = HKDF.extract(hashes.SHA256(), b"dongled/1 commit", base_key)
    return HKDFExpand(hashes.SHA256(), 32, kid.to_bytes(8, "big") + session + verify_key).derive(secret)


def _check(kid: int, base_key: bytes, suite: int) -> None:
    if not 0 <= kid <= sframe.MAX_VALUE:
        raise KeyRefused("kid-range", "a KID is an unsigned 64-bit number")
    if len(base_key) != sframe.suite_of(suite).hash_size:
        raise KeyRefused(
            "base-key-size", f"a base key of suite {suite} has {sframe.SUITES[suite].hash_size} bytes"
        )


class _SpentKeys:
    """The last few thousand base keys that this process sealed with, by digest.

    A second counter under one key would repeat nonces, whichever object it sits in.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, base_key: bytes) -> None:
        digest = hashlib.sha256(b"dongled/1 spent" + base_key).digest()
        with self._lock:
            if digest in self._digests:
                raise KeyRefused(
                    "key-used", "this base key was sealed with before: its counter cannot start again"
                )
            self._digests[digest] = None
            if len(self._digests) > _SPENT_KEPT:
                self._digests.popitem(last=False)


_spent = _SpentKeys()


# RFC 9605, 9.1: Header Value Uniqueness
class SealingKey:
    """A sender's generation: derived key, signing key and the one counter of both.

    ``base_key`` is Nh random bytes (32 in suite 4, 64 in suite 5) and serves for one SealingKey in a
    process's life; ``signing_key`` is a raw Ed25519 private key, 32 bytes. Raises KeyRefused: ``kid-range``,
    ``base-key-size``, ``signing-key``, ``key-used``; MediaError: ``suite-refused``.
    """

    __slots__ = ("_lock", "_next", "commit", "kid", "sframe", "signer")

    def __init__(self, kid: int, base_key: bytes, signing_key: bytes, suite: int, session: bytes) -> None:
        _check(kid, base_key, suite)
        try:
            self.signer = Ed25519PrivateKey.from_private_bytes(signing_key)
        except ValueError:
            raise KeyRefused("signing-key", "not a raw Ed25519 private key") from None
        _spent.spend(base_key)
        self.kid = kid
        verify_key = self.signer.public_key().public_bytes_raw()
        self.commit = commit_base_key(base_key, kid, session, verify_key)
        self.sframe = sframe.derive(suite, base_key, kid)
        self._next = 0
        self._lock = threading.Lock()

    @property
    def next_ctr(self) -> int:
        """The counter of the next frame: how many were sealed."""
        return self._next

    def take_ctr(self) -> int:
        """A counter that nobody else gets, whatever becomes of the frame."""
        with self._lock:
            ctr = self._next
            self._next = ctr + 1
        return ctr


class OpeningKey:
    """A receiver's generation: derived key, the sender's verify key, and what was already opened."""

    __slots__ = ("sframe", "verifier", "window")

    def __init__(self, key: sframe.Key, verifier: Ed25519PublicKey, window: ReplayWindow) -> None:
        self.sframe = key
        self.verifier = verifier
        self.window = window


class KeyRing:
    """The generations of one peer's stream, by KID. Keys come and go while another thread opens frames."""

    def __init__(self, session: bytes) -> None:
        self._session = session
        self._keys: dict[int, OpeningKey] = {}
        # What outlives a key that was forgotten but may be granted again: whose it was, and its window.
        self._seen: dict[int, tuple[tuple[bytes, int], ReplayWindow]] = {}
        self._lock = threading.Lock()
        self.floor = 0
        """KIDs below this one are retired for good."""

    @property
    def kids(self) -> list[int]:
        """KIDs that frames can be opened under, rising."""
        return sorted(self._keys)

    def install(self, kid: int, base_key: bytes, verify_key: bytes, suite: int) -> None:
        """Add a generation; one that is already there, with the same keys, stays as it is.

        ``base_key`` is Nh bytes, ``verify_key`` the sender's raw Ed25519 public key, 32 bytes. A generation
        that comes back after ``forget(None)`` keeps its replay window. Raises KeyRefused: ``kid-range``,
        ``base-key-size``, ``verify-key``, ``kid-retired``, ``kid-conflict``; MediaError: ``suite-refused``.
        """
        _check(kid, base_key, suite)
        try:
            verifier = Ed25519PublicKey.from_public_bytes(verify_key)
        except ValueError:
            raise KeyRefused("verify-key", "not a raw Ed25519 public key") from None
        identity = (commit_base_key(base_key, kid, self._session, verify_key), suite)
        with self._lock:
            if kid < self.floor:
                raise KeyRefused("kid-retired", f"key {kid} was retired: so is all below {self.floor}")
            known, window = self._seen.get(kid, (identity, ReplayWindow()))
            if known != identity:
                raise KeyRefused("kid-conflict", f"another key was already given as {kid}")
            if kid in self._keys:
                return
            if kid not in self._seen and len(self._seen) >= MAX_GENERATIONS:
                oldest = min(self._seen)
                if kid < oldest:
                    raise KeyRefused("kid-retired", f"key {kid} is older than the {MAX_GENERATIONS} kept")
                self._retire(oldest + 1)
            self._seen[kid] = (identity, window)
            self._keys[kid] = OpeningKey(sframe.derive(suite, base_key, kid), verifier, window)

    def commit(self, kid: int) -> bytes | None:
        """The commitment of an installed generation, to compare with what its sender says in public."""
        with self._lock:
            return self._seen[kid][0][0] if kid in self._keys else None

    def find(self, kid: int) -> OpeningKey:
        """The generation of a frame. Raises FrameRejected: ``retired-key``, or UnknownKey."""
        key = self._keys.get(kid)
        if key is not None:
            return key
        if kid < self.floor:
            raise FrameRejected("retired-key", f"key {kid} is retired")
        raise UnknownKey(kid)

    def forget(self, below: int | None = None) -> None:
        """Retire every generation below ``below`` for good; None drops every key, until granted again."""
        with self._lock:
            if below is None:
                self._keys.clear()
            else:
                self._retire(below)

    def _retire(self, below: int) -> None:
        self.floor = max(self.floor, below)
        for kid in [kid for kid in self._seen if kid < self.floor]:
            self._keys.pop(kid, None)
            del self._seen[kid]
