"""An operator's PIN for a token that the daemon could not unlock by itself."""

from __future__ import annotations

from dongled.agent.custody import Custody
from dongled.agent.errors import AgentError
from dongled.agent.wiring import Places
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.pin import Pin
from dongled.tokens.state import TokenState
from dongled.tokens.unlocking import Unlocking


async def unlock(custody: Custody | None, where: Places, pin: str, *, to_key: bool) -> str:
    """Try the token's PIN, or the FIDO2 key's that unseals it; the state. Raises AgentError.

    Of two tokens it is for the one that is LOCKED, the identity's first.
    """
    if custody is None or custody.terminal is not None:
        raise AgentError("not-locked", "There is no locked token here.", "See 'dongled status'.")
    locked = [role for role, (state, _) in custody.parts.items() if state is TokenState.LOCKED]
    role = KeyRole.DATA if locked == [KeyRole.DATA] else KeyRole.IDENTITY
    source = where[role]().pin
    if not isinstance(source, Unlocking):
        raise AgentError("pin-none", "This token is configured to have no PIN.", "Say where its PIN is.")
    try:
        hand_over = source.hand_over_to_key if to_key else source.hand_over
        given = Pin(pin)
        # A retry that waits for a touch would keep the operator waiting too.
        source.stop_waiting()
        await custody.unlock(lambda: hand_over(given))
    except TokenError as error:
        source.take_back()
        raise AgentError(error.reason, str(error), error.hint) from None
    return custody.state


def stop_waiting(where: Places) -> None:
    """Behind a thread that waits for a touch nothing would end."""
    for place in where.values():
        source = place().pin
        if isinstance(source, Unlocking):
            source.stop_waiting()
