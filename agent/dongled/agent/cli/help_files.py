"""Manual pages and shell completion, for a dongled that no Debian package installed."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dongled.agent.cli.manual import pages
from dongled.agent.units import MARK

MANUAL = "usr/local/share/man/man1"
# Where each shell looks for what the machine's administrator adds.
COMPLETIONS = {
    "bash": "usr/local/share/bash-completion/completions/dongled",
    "zsh": "usr/local/share/zsh/site-functions/_dongled",
    "fish": "usr/local/share/fish/vendor_completions.d/dongled.fish",
}


def files(program: click.Command) -> dict[str, str]:
    """Path below the root to content, with the mark of what we wrote."""
    context = click.Context(program, info_name="dongled")
    written = f"Written {MARK}, which overwrites and removes it."
    found = {f"{MANUAL}/{name}": f'.\\" {written}\n{text}' for name, text in pages(program, context)}
    for shell, place in COMPLETIONS.items():
        # zsh wants its own word in the first line.
        head, _, rest = completion(program, shell).lstrip().partition("\n")
        found[place] = f"{head}\n# {written}\n{rest}"
    return found


def completion(program: click.Command, shell: str) -> str:
    """The script by which a shell asks the program for completions."""
    kind = get_completion_class(shell)
    assert kind is not None
    asked = kind(program, {}, "dongled", "_DONGLED_COMPLETE")
    return asked.source_template % asked.source_vars()
