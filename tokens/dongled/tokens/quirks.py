"""Where PKCS#11 modules differ from what this room takes for granted: one table, one row a kind of token.

PIV cards have keys in fixed places, certificates tell what a key may do, and labels are the module's own.
Measured with OpenSC 0.23, ykcs11 2.2 and tpm2-pkcs11 1.9; what a TPM's derivation wants with 1.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from dongled.tokens.api import KeyAttributes, KeyRole


class Watch(Enum):
    """How a token's removal is noticed.

    ``READER``: its slot is described by the name of its PC/SC reader, which can be watched. ``SLOTS``: the
    module has to be asked again and again. ``NOTHING``: it cannot be removed.
    """

    READER = auto()
    SLOTS = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Quirks:
    """What holds of a token besides PKCS#11. Without any of it, a role is a CKA_LABEL.

    ``places``: each role's CKA_ID, where the token has fixed places for keys and certificates.
    ``derives_unsaid``: keys derive though CKA_DERIVE is false.
    ``label_wanders``: the token's label is a certificate's subject, and changes with it.
    ``changes``: keys and certificates can be put on the token through the module.
    ``officer_writes``: only the security officer may do so.
    ``extractable_settable``: CKA_EXTRACTABLE may be asked for at generation; it is read back anyhow.
    ``uses_settable``: so may what the key is for; else no more is asked for than what deriving takes.
    ``derives_writable``: only a read-write session derives.
    ``lock_passes``: CKR_PIN_LOCKED says that the token judges no PIN just now, not that it refused this one.
    ``attestation``: how labels begin of what looks like keys' certificates, and is the maker's word for keys;
    exactly this is the label of the certificate that such words are signed with.
    ``watch``: how its removal is noticed.
    """

    places: Mapping[KeyRole, bytes] = field(default_factory=dict)
    derives_unsaid: bool = False
    label_wanders: bool = False
    changes: bool = True
    officer_writes: bool = False
    extractable_settable: bool = True
    uses_settable: bool = True
    derives_writable: bool = False
    lock_passes: bool = False
    attestation: str | None = None
    watch: Watch = Watch.SLOTS

    def is_for(self, role: KeyRole, cka_id: bytes, label: str) -> bool:
        """Is a key with this CKA_ID and CKA_LABEL that role's?"""
        if self.places:
            return self.places.get(role) == cka_id
        return label == role

    def may(self, role: KeyRole, attributes: KeyAttributes) -> bool:
        """Does the token let the key do what the role needs?"""
        if role is KeyRole.DATA:
            return attributes.derive or self.derives_unsaid
        return attributes.sign


NONE = Quirks()

# PIV keys 9A and 9D (NIST SP 800-73-4) by the CKA_ID that both modules give them.
_PIV_PLACES = {KeyRole.IDENTITY: b"\x01", KeyRole.DATA: b"\x03"}

# What the module and its token say of themselves, and what follows from it; the first row that fits holds.
_TABLE: tuple[tuple[Mapping[str, str], Quirks], ...] = (
    (
        {"library-manufacturer": "OpenSC Project", "manufacturer": "piv_II"},
        Quirks(places=_PIV_PLACES, label_wanders=True, changes=False, watch=Watch.READER),
    ),
    ({"library-manufacturer": "OpenSC Project"}, Quirks(watch=Watch.READER)),
    ({"library-manufacturer": "SoftHSM"}, Quirks(watch=Watch.NOTHING)),
    (
        {"library-manufacturer": "tpm2-software.github.io"},
        Quirks(uses_settable=False, derives_writable=True, lock_passes=True, watch=Watch.NOTHING),
    ),
    (
        {"library-manufacturer": "Yubico (www.yubico.com)"},
        Quirks(
            places=_PIV_PLACES,
            derives_unsaid=True,
            officer_writes=True,
            extractable_settable=False,
            attestation="X.509 Certificate for PIV Attestation",
            watch=Watch.READER,
        ),
    ),
)


def of(names: Mapping[str, str]) -> Quirks:
    """The quirks of a token, given its and its module's names as in RFC 7512, section 2.3."""
    for said, quirks in _TABLE:
        if all(names.get(name) == value for name, value in said.items()):
            return quirks
    return NONE
