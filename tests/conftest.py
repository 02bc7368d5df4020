"""The whole suite runs in a network of its own: nothing gets out, nothing outlives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import faults, netns, properties

LAB = Path(__file__).parent / "lab"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="run the tests of tokens' faults, print a table")
    parser.addoption("--long", action="store_true", help="play what takes long at full length")
    parser.addoption("--lab", metavar="SUITE", help="boot a device with that Debian release; see `make lab`")
    parser.addoption("--properties", action="store_true", help="run the tests of properties, print a table")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The lab wants packages and a device to install them on: `make lab` makes both."""
    return True if collection_path == LAB and not config.getoption("--lab") else None


def pytest_configure(config: pytest.Config) -> None:
    properties.register(config)
    faults.register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    netns.enter(config)
