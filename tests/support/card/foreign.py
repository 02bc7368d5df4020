"""Play a card that is none of ours: ``python3 -I foreign.py ROOT PORT``, with vsmartcard's emulator in ROOT.

An ISO 7816 card with a file system and no PIV application. Debian's Python has what it needs, under the name
that Debian gives it.
"""

from __future__ import annotations

import importlib
import runpy
import sys


def main(root: str, port: str) -> None:
    library = f"{root}/usr/lib/python3"
    sys.path += [f"{library}/dist-packages", f"{library}/site-packages/virtualsmartcard"]
    sys.modules["Crypto"] = importlib.import_module("Cryptodome")
    sys.argv = ["vicc", "--hostname", "127.0.0.1", "--port", port]
    runpy.run_path(f"{root}/usr/bin/vicc", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
