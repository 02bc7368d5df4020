"""``python -m dongled.tokens.worker FD MODULE PARENT``: serve requests on a socket until it closes."""

from __future__ import annotations

import sys

from dongled.tokens.worker.process import main

sys.exit(main(sys.argv[1:]))
