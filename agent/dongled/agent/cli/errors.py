"""How a command tells its user what went wrong: one line of error, one line of what to do, an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

EX_CONFIG = 78

# Somebody has to mend these. A service manager that tried again would use up the token's tries of a PIN.
_NEVER_AGAIN = frozenset(
    {
        "pin-wrong", "pin-refused-before", "pin-in-doubt", "pin-final-try", "pin-locked",
        "puk-wrong", "puk-locked",
    }
)  # fmt: skip


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Render any room's error on standard error and exit; use it as ``with`` or as a decorator.

    An error of ours is an exception with a ``reason``; ``hint`` says what to do, ``exit_code`` the exit
    status where it is not 1 (78 for configuration, EX_CONFIG of sysexits.h; for a refused PIN too). Anything
    else passes through.
    """
    try:
        yield
    except Exception as error:
        reason = getattr(error, "reason", None)
        # ssl, urllib and UnicodeError have a `reason` too; only the rooms' errors have both.
        if not isinstance(reason, str) or not hasattr(error, "hint"):
            raise
        hint = str(getattr(error, "hint", ""))
        click.echo(f"error: {error} [{reason}]", err=True)
        if hint:
            click.echo(f"hint: {hint}", err=True)
        sys.exit(EX_CONFIG if reason in _NEVER_AGAIN else int(getattr(error, "exit_code", 1)))
