"""Can the PIN's source be used, and how well does it keep the PIN? The PIN itself is not looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dongled.agent.doctor.api import Finding, ok, warning
from dongled.agent.doctor.token import stored
from dongled.agent.doctor.token.case import Part, TokenCase, check
from dongled.agent.doctor.user import expected_user
from dongled.config.api import Credential
from dongled.tokens.pin import NoPin, PinFile, PinPrompt
from dongled.tokens.unlocking import NobodyYet, Unlocking


async def look(case: TokenCase, part: Part) -> Iterable[Finding]:
    credential = case.place(part).pin
    if isinstance(credential, Credential):
        # The daemon alone is passed it, and what is passed does not tell how it was kept.
        return await asyncio.to_thread(stored.judge, credential.name)
    source = part.place().pin
    if isinstance(source, Unlocking):
        # What it stands for just now is what keeps the PIN.
        source = source.current
    if isinstance(source, NobodyYet):
        text = "an operator has to give it at every start, with `dongled token unlock`"
        return [warning(text, "pin-file or pin-credential start unattended")]
    if isinstance(source, NoPin):
        return [warning("weak: it has no PIN", "whoever has the token can use it: give it a PIN")]
    if isinstance(source, PinPrompt):
        text = "somebody has to type it at every start"
        return [warning(text, "pin-file or pin-credential start unattended")]
    if isinstance(source, PinFile):
        # Whether the daemon's user may read it, ``permissions`` says to anybody else.
        if expected_user(case.settings).asks:
            await asyncio.to_thread(source.read)
        text = f"weak: {source.description} is as safe as this machine's disk"
        return [warning(text, "a systemd credential bound to the machine's TPM: docs/operations.md")]
    await asyncio.to_thread(source.version)
    return [ok(source.description)]


CHECK = check("token-pin", "The PIN's source can be used, and keeps it well", look)
