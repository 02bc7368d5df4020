"""OCSP answers about this terminal's own certificates, to be stapled to its requests.

A camera on a network of its own reaches no responder: its viewers bring what theirs said, as TLS has servers
do (RFC 6066, 8). It is the responder that signs, so a terminal may bring an answer and cannot change one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.evidence import EvidenceSource
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Evidence, EvidenceWanted


def staples(policy: CertificatePolicy, chains: Sequence[Sequence[bytes]]) -> EvidenceSource:
    """``chains``: this terminal's certificates, DER, leaf first. They are asked about from now on."""
    # What is asked for now is there when the first request is.
    with contextlib.suppress(PolicyRefused):
        policy.known_answers(chains)

    async def gather(wanted: EvidenceWanted) -> Evidence:
        return Evidence(ocsp=tuple(policy.known_answers(chains)[: limits.STAPLES]))

    return gather
