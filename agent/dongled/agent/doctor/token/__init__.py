"""The checks of a terminal's token or tokens, one a file, in the order in which they are run and shown.

``WITHOUT_PIN`` try no PIN, so they can be part of an examination that must not.
"""

from __future__ import annotations

from dongled.agent.doctor.api import Check
from dongled.agent.doctor.token import certificates, keys, module, pin, there, tries, unlocks, works
from dongled.agent.doctor.token.case import TokenCase

WITHOUT_PIN: tuple[Check[TokenCase], ...] = (module.CHECK, there.CHECK, pin.CHECK, tries.CHECK)
TOKEN_CHECKS: tuple[Check[TokenCase], ...] = (
    *WITHOUT_PIN,
    unlocks.CHECK,
    keys.CHECK,
    certificates.CHECK,
    works.CHECK,
)
