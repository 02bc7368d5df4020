"""Write a manual page for each command into a directory: manual DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dongled.agent.cli.main import main
from dongled.agent.cli.manual import pages

target = Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
for name, text in pages(main, click.Context(main, info_name="dongled")):
    (target / name).write_text(text)
