"""Run pytest in a private network namespace, with the addresses that Janus and aiortc can gather.

A test may bind what it likes on `ADDRESS` and 127.0.0.1, as root of that namespace: other runs, other
programs and other hosts neither see nor disturb it. Processes that a test forgets die with the run.
"""

from __future__ import annotations

import sys

import pytest

from dongled.agent.demo import namespace

ADDRESS = namespace.ADDRESS


def enter(config: pytest.Config) -> None:
    """Start this pytest run again inside a namespace, unless it is in one."""
    if namespace.inside():
        return
    # Give the terminal back first, so that --pdb in the inner run can read from it.
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    namespace.enter([sys.executable, *sys.orig_argv[1:]])
