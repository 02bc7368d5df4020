"""The meeting of the integration tests, for longer."""

from integration.conftest import company, janus, launch

__all__ = ["company", "janus", "launch"]
