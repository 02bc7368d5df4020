"""Writes which cards are in, as a line of JSON, at the start and at each change: ``python watching.py``.

A process of its own, since libpcsclite remembers the first pcscd that it met.
"""

from __future__ import annotations

import asyncio
import json
import sys

from dongled.tokens.readers import Readers


async def main() -> None:
    readers = Readers()
    await readers.start()
    while True:
        sys.stdout.write(json.dumps(readers.cards) + "\n")
        sys.stdout.flush()
        await readers.change()


if __name__ == "__main__":
    asyncio.run(main())
