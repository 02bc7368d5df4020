"""A real Janus for tests: ``async with JanusServer(tmp_path / "janus") as janus: ... janus.url``."""

from __future__ import annotations

from dongled.agent.demo.janus import Installation, JanusServer

__all__ = ["Installation", "JanusServer"]
