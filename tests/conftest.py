"""The whole suite runs in a network of its own: nothing gets out, nothing outlives it."""

from __future__ import annotations

import pytest

from support import netns


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    netns.enter(config)
