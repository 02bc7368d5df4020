"""Somebody at a FIDO2 key, as the commands that use one ask for him."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dongled.tokens.fido.keys import Person
    from dongled.tokens.pin import Pin

key_pin_option = click.option(
    "--fido-pin-file",
    "key_pin_file",
    type=click.Path(path_type=Path),
    help="The file that holds the FIDO2 key's own PIN, not to be asked for it.",
)


def ask_pin(what: str) -> Pin:
    """On the terminal; without one from standard input."""
    from dongled.tokens.pin import Pin

    if sys.stdin.isatty():
        return Pin(str(click.prompt(what, hide_input=True, err=True)))
    return Pin(sys.stdin.readline().rstrip("\r\n"))


def key_pin(file: Path | None) -> Callable[[], Pin] | None:
    from dongled.tokens.pin import PinFile

    if file is not None:
        return PinFile(file).read
    return (lambda: ask_pin("PIN of the FIDO2 key")) if sys.stdin.isatty() else None


def person(pin: Callable[[], Pin] | None) -> Person:
    from dongled.tokens.fido.keys import Person

    return Person(lambda: click.echo("touch the FIDO2 key", err=True), pin)
