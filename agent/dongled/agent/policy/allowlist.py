"""Who may watch and who may be watched here, by terminal: nobody, unless written down."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.profile import ProfileViolation, terminal_urn

EVERYBODY = "*"


class AllowList:
    """Terminals as ``urn:uuid:...``, or ``"*"`` for each one that holds a good certificate.

    ``what`` names the list in refusals (``"viewer"``). Raises AgentError ``bad-allow-list``.
    """

    def __init__(self, what: str, entries: Iterable[str]) -> None:
        self._what = what
        self._entries = frozenset(_entry(what, text) for text in entries)

    def check(self, terminal: str) -> None:
        """Raises PolicyRefused ``viewer-not-allowed``, ``publisher-not-allowed``."""
        if terminal not in self._entries and EVERYBODY not in self._entries:
            raise PolicyRefused(
                f"{self._what}-not-allowed",
                f"{terminal} is not on the list of {self._what}s",
                f'add "{terminal}" to the allowed {self._what}s, if it should be there',
            )


def _entry(what: str, text: str) -> str:
    if text == EVERYBODY:
        return text
    try:
        return terminal_urn(text)
    except ProfileViolation as error:
        raise AgentError(
            "bad-allow-list",
            f"in the list of allowed {what}s: {error}",
            'write urn:uuid:... in lower case as "dongled ca issue" shows it, or "*" for every certified one',
        ) from error
