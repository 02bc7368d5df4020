"""Who makes the call that is being answered: the user at the other end of the control socket."""

from __future__ import annotations

import pwd
from contextvars import ContextVar

calling: ContextVar[int | None] = ContextVar("calling", default=None)
"""The user id. A task that a call starts inherits it; other calls set their own."""


def caller() -> str:
    """The user's name, or ``uid N``."""
    uid = calling.get()
    try:
        return "somebody" if uid is None else pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
