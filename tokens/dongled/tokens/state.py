"""How a terminal's token is, in one word."""

from __future__ import annotations

from enum import StrEnum

from dongled.tokens.errors import TokenError


class TokenState(StrEnum):
    """``READY`` is the only one in which keys can be used."""

    ABSENT = "ABSENT"
    LOCKED = "LOCKED"
    READY = "READY"
    BUSY = "BUSY"
    PIN_BLOCKED = "PIN_BLOCKED"
    FAULT = "FAULT"
    WRONG_TOKEN = "WRONG_TOKEN"


# After these the next operation may do: a worker that died or hung is replaced by then, a queue shorter.
PASSING = frozenset({"token-timeout", "worker-lost", "worker-backoff", "token-busy", "token-quota"})

_STATES = {
    "token-absent": TokenState.ABSENT,
    "token-busy": TokenState.BUSY,
    "pin-locked": TokenState.PIN_BLOCKED,
    "token-other": TokenState.WRONG_TOKEN,
    "token-ambiguous": TokenState.WRONG_TOKEN,
    "key-other": TokenState.WRONG_TOKEN,
}


def state_after(error: TokenError) -> TokenState:
    """What a failure to open or use the token says of it."""
    unnamed = TokenState.LOCKED if error.reason.startswith(("pin-", "fido-")) else TokenState.FAULT
    return _STATES.get(error.reason, unnamed)
