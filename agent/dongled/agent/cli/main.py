"""The ``dongled`` command. Subcommands are imported when they are called, so that --help is quick."""

from __future__ import annotations

import importlib

import click

# Name of the subcommand, and the module of this package whose `command` it is.
COMMANDS = {
    "run": "run",
    "view": "view",
    "status": "status",
    "doctor": "doctor",
    "bugreport": "bugreport",
    "reload": "reload",
    "requests": "requests",
    "approve": "approve",
    "deny": "deny",
    "confirm-time": "confirm_time",
    "expel": "expel",
    "audit": "audit",
    "private": "private",
    "presence": "presence",
    "token": "token",
    "enroll": "enroll",
    "ca": "ca",
    "config": "config",
    "install-service": "install_service",
    "demo": "demo",
}


class LazyGroup(click.Group):
    """A group whose members are imported only when called or when their own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = importlib.import_module(f"dongled.agent.cli.{module}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="dongled")
def main() -> None:
    """Encrypted video meetings for embedded terminals, with the keys on a token."""
