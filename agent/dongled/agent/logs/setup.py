"""Where the log goes, and in what form."""

from __future__ import annotations

import logging
import sys

from dongled.agent.logs.events import printable
from dongled.agent.logs.journald import JournalHandler, is_our_stderr


class OneLine(logging.Formatter):
    """A record is one line, whatever a peer wrote into it, and its traceback is indented below."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = printable(record.getMessage())
        record.asctime = self.formatTime(record, self.datefmt) if self.usesTime() else ""
        lines = [self.formatMessage(record)]
        if record.exc_info:
            # Not split at what only some take for the end of a line.
            trace = self.formatException(record.exc_info).split("\n")
            lines += [f"    {printable(line)}" for line in trace]
        return "\n".join(lines)


def set_up(*, verbose: bool) -> None:
    """Log to the journal if it is what standard error is, and else to standard error as text."""
    handler: logging.Handler
    if is_our_stderr():
        handler = JournalHandler()
        # The journal knows the time and the level, and shows them.
        handler.setFormatter(OneLine("%(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)
    # Both tell of every packet, and of addresses, without being asked.
    for noisy in ("aioice", "aiortc"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if verbose else logging.ERROR)
