"""What this terminal shows with its requests: each kind of evidence from a source of its own.

The other half, what is made of evidence that others show, is ``Policy.staple`` for OCSP answers and an
``EvidenceCheck`` (api.py) for any other kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from dongled.agent.errors import AgentError
from dongled.agent.protocol.api import Evidence, EvidenceWanted

log = logging.getLogger(__name__)

# Has one kind to show, and leaves the others empty; raises AgentError where it cannot.
EvidenceSource = Callable[[EvidenceWanted], Awaitable[Evidence]]


def gatherer(sources: Sequence[EvidenceSource]) -> EvidenceSource:
    """All of ``sources`` together. What one of them cannot show is left out, and the reason logged."""

    async def one(source: EvidenceSource, wanted: EvidenceWanted) -> Evidence:
        try:
            return await source(wanted)
        except AgentError as error:
            log.warning("nothing to show to %s: %s [%s]", wanted.peer.subject, error, error.reason)
            return Evidence()

    async def gather(wanted: EvidenceWanted) -> Evidence:
        parts = await asyncio.gather(*(one(source, wanted) for source in sources))
        return Evidence(
            ocsp=tuple(answer for part in parts for answer in part.ocsp),
            fido=next((part.fido for part in parts if part.fido is not None), None),
            attestation=tuple(each for part in parts for each in part.attestation),
        )

    return gather
