"""The asymmetric keys of a PIV card, all of P-256 (NIST SP 800-73-4, part 1, table 5)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from support.card import apdu, tlv
from support.card.apdu import Refused

# Authentication, signature, key management, card authentication, and twenty retired ones.
SLOTS = frozenset({0x9A, 0x9C, 0x9D, 0x9E, *range(0x82, 0x96)})

_P256 = 0x11
_GENERATED, _IMPORTED = 1, 2
PIN_ONCE, PIN_ALWAYS, PIN_NEVER = 2, 3, 1
_DEFAULT_POLICY = {0x9C: PIN_ALWAYS, 0x9E: PIN_NEVER}
TOUCH_NEVER = 1


@dataclass(frozen=True)
class Key:
    private: ec.EllipticCurvePrivateKey
    generated: bool
    pin_policy: int
    touch_policy: int

    @property
    def point(self) -> bytes:
        public = self.private.public_key()
        return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    def use(self, template: dict[int, bytes]) -> bytes:
        """Sign the challenge (81), or agree with the point (85) (SP 800-73-4, part 2, A.3 and A.4)."""
        if 0x85 in template:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), template[0x85])
            return self.private.exchange(ec.ECDH(), peer)
        digest = template.get(0x81, b"")
        if not 0 < len(digest) <= 32:
            raise Refused(apdu.WRONG_DATA)
        return self.private.sign(digest.rjust(32, b"\0"), ec.ECDSA(utils.Prehashed(hashes.SHA256())))

    def metadata(self) -> bytes:
        return (
            tlv.encode(1, bytes((_P256,)))
            + tlv.encode(2, bytes((self.pin_policy, self.touch_policy)))
            + tlv.encode(3, bytes((_GENERATED if self.generated else _IMPORTED,)))
            + tlv.encode(4, tlv.encode(0x86, self.point))
        )


class Keys:
    """The keys by slot."""

    def __init__(self) -> None:
        self._keys: dict[int, Key] = {}

    def get(self, slot: int) -> Key:
        if slot not in self._keys:
            raise Refused(apdu.NO_REFERENCE)
        return self._keys[slot]

    def generate(self, slot: int, pin_policy: int, touch_policy: int) -> bytes:
        """A fresh key, in place of any earlier one; returns its public point."""
        key = self._store(slot, ec.generate_private_key(ec.SECP256R1()), True, pin_policy, touch_policy)
        return key.point

    def put(self, slot: int, scalar: bytes) -> None:
        """A key that was made elsewhere."""
        private = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
        self._store(slot, private, False, 0, 0)

    def _store(
        self, slot: int, private: ec.EllipticCurvePrivateKey, generated: bool, pin: int, touch: int
    ) -> Key:
        if slot not in SLOTS:
            raise Refused(apdu.WRONG_P1P2)
        policy = pin or _DEFAULT_POLICY.get(slot, PIN_ONCE)
        self._keys[slot] = Key(private, generated, policy, touch or TOUCH_NEVER)
        return self._keys[slot]
