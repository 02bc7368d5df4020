"""What a request shows, where a test does not care."""

from __future__ import annotations

from dongled.agent.policy.api import Presented
from dongled.agent.protocol.api import Evidence
from support.authority import new_key

SHOWN = Presented("meeting", bytes(16), new_key().public_key(), ("camera",), Evidence(), bytes(32))
