"""What sealing and opening a frame costs on this machine, by suite and size: ``python bench/sealing.py``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dongled.media import sframe
from dongled.media.api import StreamContext
from dongled.media.frames import FrameOpener, FrameSealer

ROUNDS = 2000


def microseconds(work: Callable[[int], object]) -> float:
    started = time.perf_counter()
    for number in range(ROUNDS):
        work(number)
    return (time.perf_counter() - started) / ROUNDS * 1e6


def costs(suite: sframe.Suite, size: int) -> tuple[float, float, float, float]:
    """Seal and open a frame of ``size`` bytes; seal and open it with SFrame alone, unsigned."""
    context = StreamContext("bench", os.urandom(16), "camera", "vp8")
    base_key, signer = os.urandom(suite.hash_size), Ed25519PrivateKey.generate()
    sealer, opener = FrameSealer(context), FrameOpener(context)
    sealer.use(1, base_key, signer.private_bytes_raw(), suite.number)
    opener.install(1, base_key, signer.public_key().public_bytes_raw(), suite.number)
    key = sframe.derive(suite.number, base_key, 1)

    frame = b"\x01" + os.urandom(size - 1)
    wires = [sealer.seal(frame) for _ in range(ROUNDS)]
    sealed = sframe.seal(key, 300, b"metadata", frame)
    return (
        microseconds(lambda _: sealer.seal(frame)),
        microseconds(lambda number: opener.open(wires[number])),
        microseconds(lambda number: sframe.seal(key, number, b"metadata", frame)),
        microseconds(lambda _: sframe.open(key, sframe.parse_header(sealed), b"metadata", sealed)),
    )


def main() -> None:
    sys.stdout.write("microseconds a frame\nsuite   bytes    seal    open   SFrame alone: seal    open\n")
    for suite in sframe.SUITES.values():
        for size in (1_000, 8_000, 60_000):
            seal, opening, bare_seal, bare_open = costs(suite, size)
            sys.stdout.write(
                f"{suite.number:5d} {size:7d} {seal:7.1f} {opening:7.1f} {bare_seal:20.1f} {bare_open:7.1f}\n"
            )


if __name__ == "__main__":
    main()
