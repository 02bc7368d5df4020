"""A manual page for each command, from the command's own help, in roff(7)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import click


def pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """File name and text for a command and all below it."""
    yield f"{_name(context)}.1", page(command, context)
    if isinstance(command, click.Group):
        for one in command.list_commands(context):
            if (inner := command.get_command(context, one)) is not None:
                yield from pages(inner, click.Context(inner, info_name=one, parent=context))


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def escaped(text: str) -> str:
    """Text that roff(7) shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.splitlines())


def page(command: click.Command, context: click.Context) -> str:
    name = _name(context)
    help_text = " ".join((command.help or "").split("\f")[0].split())
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        f'.TH "{name.upper()}" 1 "" "dongled {version("dongled")}" "User Commands"',
        f".SH NAME\n{escaped(name)} \\- {escaped(command.get_short_help_str(200))}",
        f".SH SYNOPSIS\n.B {escaped(context.command_path)}\n{escaped(usage)}",
        f".SH DESCRIPTION\n{escaped(help_text)}",
    ]
    options = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    if options:
        parts.append(".SH OPTIONS\n" + "\n".join(f".TP\n.B {escaped(k)}\n{escaped(v)}" for k, v in options))
    below = []
    if isinstance(command, click.Group):
        rows = [(one, command.get_command(context, one)) for one in command.list_commands(context)]
        parts.append(
            ".SH COMMANDS\n"
            + "\n".join(f".TP\n.B {escaped(k)}\n{escaped(c.get_short_help_str(200))}" for k, c in rows if c)
        )
        below = [f"{name}-{one}" for one, _ in rows]
    elif context.parent is not None:
        below = [context.parent.command_path.replace(" ", "-")]
    parts.append(".SH SEE ALSO\n" + ",\n".join(f".BR {escaped(one)} (1)" for one in below))
    return "\n".join(parts) + "\n"
