"""The whole suite runs in a network of its own: nothing gets out, nothing outlives it."""

from __future__ import annotations

import pytest

from support import faults, netns, properties


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="run the tests of tokens' faults, print a table")
    parser.addoption("--long", action="store_true", help="play what takes long at full length")
    parser.addoption("--properties", action="store_true", help="run the tests of properties, print a table")


def pytest_configure(config: pytest.Config) -> None:
    properties.register(config)
    faults.register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    netns.enter(config)
