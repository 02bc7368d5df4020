"""A PIV card's application (NIST SP 800-73-4, part 2), with the extensions that YubiKeys have.

Only P-256 keys. The PIN and PUK have retry counters that block; keys 9A and 9D want the PIN once, 9C before
each use, 9E never. https://doi.org/10.6028/NIST.SP.800-73-4
"""

from __future__ import annotations

from collections.abc import Callable

from support.card import apdu, tlv
from support.card.apdu import Command, Refused
from support.card.piv_keys import Keys
from support.card.piv_management import ManagementKey
from support.card.piv_pin import Reference
from support.card.piv_yubico import FIRMWARE, Attestation

AID = bytes.fromhex("A000000308000010000100")

# The YubiKey 5's answer to reset: T=1, and "YubiKey" in its historical bytes.
ATR = bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940")

_PIN, _PUK = 0x80, 0x81
_MANAGEMENT = 0x9B
_P256, _WITH_PIN_EACH_TIME, _NEVER_PIN = 0x11, 0x9C, 0x9E

# SP 800-73-4, part 1, table 2: what is read after the PIN alone (printed information, prints, iris, face).
_PRIVATE_OBJECTS = frozenset({0x5FC109, 0x5FC103, 0x5FC121, 0x5FC108})
_ATTESTATION_CERTIFICATE = 0x5FFF01
_DISCOVERY = 0x7E
_MOST_OBJECT = 3072

# SP 800-73-4, part 2, 3.1.1: the version, and the authority that allocated the identifier.
_PROPERTIES = tlv.encode(
    0x61,
    tlv.encode(0x4F, AID[5:]),
    tlv.encode(0x79, tlv.encode(0x4F, AID[:5])),
)


class PivApplet:
    """The application's state; ``pin`` and ``puk`` are public so that a test can look at their counters."""

    aid = AID

    def __init__(self, pin: str, puk: str, *, serial: int = 0x00C0FFEE, tries: int = 3) -> None:
        self.pin = Reference(pin, tries)
        self.puk = Reference(puk, tries)
        self.serial = serial
        self.keys = Keys()
        self.objects: dict[int, bytes] = {}
        self.management = ManagementKey()
        self.attestation = Attestation(serial)
        self.verified = False
        self._fresh = False
        self._instructions: dict[int, Callable[[Command], bytes]] = {
            0x20: self._verify,
            0x24: self._change_reference,
            0x2C: self._reset_retry_counter,
            0x47: self._generate,
            0x87: self._authenticate,
            0xCB: self._get_data,
            0xDB: self._put_data,
            0xF7: self._metadata,
            0xF8: self._get_serial,
            0xF9: self._attest,
            0xFA: self._set_retries,
            0xFB: self._reset,
            0xFD: lambda _: FIRMWARE,
            0xFE: self._import,
            0xFF: self._set_management_key,
        }

    def select(self) -> bytes:
        return _PROPERTIES

    def deselect(self) -> None:
        self.verified = self._fresh = False
        self.management.forget()

    def process(self, command: Command) -> bytes:
        if command.ins not in self._instructions:
            raise Refused(apdu.NO_INSTRUCTION)
        fresh, self._fresh = self._fresh, False
        if command.ins == 0x87:
            self._fresh = fresh
        return self._instructions[command.ins](command)

    def _verify(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.2.1."""
        if command.p2 != _PIN:
            raise Refused(apdu.NO_REFERENCE)
        if command.p1 == 0xFF:
            self.verified = False
            return b""
        if not command.data:
            if not self.verified:
                self.pin.refuse()
            return b""
        self.verified = False
        self.pin.verify(command.data)
        self.verified = self._fresh = True
        return b""

    def _change_reference(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.2.2."""
        reference = {_PIN: self.pin, _PUK: self.puk}.get(command.p2)
        if reference is None:
            raise Refused(apdu.NO_REFERENCE)
        reference.verify(command.data[:8])
        reference.set(command.data[8:])
        return b""

    def _reset_retry_counter(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.2.3."""
        self.puk.verify(command.data[:8])
        self.pin.set(command.data[8:])
        return b""

    def _get_data(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.1.2."""
        name = int.from_bytes(tlv.parse(command.data).get(0x5C, b""), "big")
        if name == _DISCOVERY:
            # Part 1, 3.3.2: the application PIN alone satisfies what asks for a PIN.
            return tlv.encode(_DISCOVERY, tlv.encode(0x4F, AID), tlv.encode(0x5F2F, b"\x40\x00"))
        if name in _PRIVATE_OBJECTS and not self.verified:
            raise Refused(apdu.NOT_ALLOWED_YET)
        if name == _ATTESTATION_CERTIFICATE and name not in self.objects:
            return tlv.encode(0x53, certificate_object(self.attestation.certificate))
        if name not in self.objects:
            raise Refused(apdu.NOT_FOUND)
        return tlv.encode(0x53, self.objects[name])

    def _put_data(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.3.2; an empty object is deleted."""
        self.management.require()
        fields = tlv.parse(command.data)
        if 0x5C not in fields or 0x53 not in fields or len(fields[0x53]) > _MOST_OBJECT:
            raise Refused(apdu.WRONG_DATA)
        name = int.from_bytes(fields[0x5C], "big")
        if fields[0x53]:
            self.objects[name] = fields[0x53]
        else:
            self.objects.pop(name, None)
        return b""

    def _generate(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.3.1, with Yubico's PIN policy (AA) and touch policy (AB)."""
        self.management.require()
        template = tlv.parse(tlv.parse(command.data).get(0xAC, b""))
        if template.get(0x80) != bytes((_P256,)):
            raise Refused(apdu.WRONG_DATA)
        point = self.keys.generate(command.p2, template.get(0xAA, b"\0")[0], template.get(0xAB, b"\0")[0])
        return tlv.encode(0x7F49, tlv.encode(0x86, point))

    def _authenticate(self, command: Command) -> bytes:
        """SP 800-73-4, part 2, 3.2.4, and appendix A for each exchange."""
        template = tlv.parse(tlv.parse(command.data).get(0x7C, b""))
        if command.p2 == _MANAGEMENT:
            return tlv.encode(0x7C, self.management.answer(command.p1, template))
        key = self.keys.get(command.p2)
        if command.p1 != _P256:
            raise Refused(apdu.WRONG_P1P2)
        fresh, self._fresh = self._fresh, False
        allowed = {_NEVER_PIN: True, _WITH_PIN_EACH_TIME: fresh}.get(command.p2, self.verified)
        if not allowed:
            raise Refused(apdu.NOT_ALLOWED_YET)
        return tlv.encode(0x7C, tlv.encode(0x82, key.use(template)))

    def _import(self, command: Command) -> bytes:
        self.management.require()
        fields = tlv.parse(command.data)
        if command.p1 != _P256 or len(fields.get(0x06, b"")) != 32:
            raise Refused(apdu.WRONG_DATA)
        self.keys.put(command.p2, fields[0x06])
        return b""

    def _metadata(self, command: Command) -> bytes:
        """Yubico's GET METADATA: algorithm, policies, origin, public key; or default flag and tries."""
        if command.p2 in (_PIN, _PUK):
            reference = self.pin if command.p2 == _PIN else self.puk
            tries = bytes((reference.most, reference.left))
            return tlv.encode(1, b"\xff") + tlv.encode(5, bytes((reference.default,))) + tlv.encode(6, tries)
        if command.p2 == _MANAGEMENT:
            return self.management.metadata()
        return self.keys.get(command.p2).metadata()

    def _get_serial(self, command: Command) -> bytes:
        return self.serial.to_bytes(4, "big")

    def _attest(self, command: Command) -> bytes:
        return self.attestation.attest(command.p1, self.keys.get(command.p1))

    def _set_retries(self, command: Command) -> bytes:
        """Both counters; the PIN and PUK become the defaults again."""
        self.management.require()
        if not self.verified or not command.p1 or not command.p2:
            raise Refused(apdu.NOT_ALLOWED_YET)
        self.pin, self.puk = Reference("123456", command.p1), Reference("12345678", command.p2)
        self.verified = False
        return b""

    def _reset(self, command: Command) -> bytes:
        """Back to a new card, once both PIN and PUK are blocked."""
        if self.pin.left or self.puk.left:
            raise Refused(apdu.CONDITIONS)
        self.pin, self.puk = Reference("123456", 3), Reference("12345678", 3)
        self.keys, self.objects, self.management = Keys(), {}, ManagementKey()
        self.verified = False
        return b""

    def _set_management_key(self, command: Command) -> bytes:
        self.management.require()
        self.management.set(command.data)
        return b""


def certificate_object(der: bytes) -> bytes:
    """SP 800-73-4, part 1, table 10: a certificate, not compressed, and no error detection code."""
    return tlv.encode(0x70, der) + tlv.encode(0x71, b"\0") + tlv.encode(0xFE)
