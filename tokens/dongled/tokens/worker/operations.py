"""What a worker does with its module: find tokens, log in, list, sign, derive, generate, store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pkcs11
from pkcs11 import DEFAULT, KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag, _pkcs11

from dongled.tokens.errors import TokenError
from dongled.tokens.worker import cryptoki
from dongled.tokens.worker.curve import POINT_BYTES, is_point

# SEC 2, 2.4.2 and RFC 5480, 2.1.1.1: id-ecPublicKey's parameters for P-256, the OID 1.2.840.10045.3.1.7
P256_PARAMETERS = bytes.fromhex("06082a8648ce3d030107")

_SECRET_BYTES = 32

_USES = (
    Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP,
    Attribute.SIGN, Attribute.VERIFY, Attribute.DERIVE,
)  # fmt: skip

# What is known of a key pair is known by its private half: what a power cut leaves undone is found by it.
_PRIVATE_LAST = (ObjectClass.CERTIFICATE, ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY)

# The bindings' stubs do not tell of it.
_derive_key: Callable[..., Any] = vars(_pkcs11)["DeriveMixin"].derive_key

# What the key has to say of itself, and what not to believe when the module cannot say it.
_ATTRIBUTES: dict[str, tuple[Attribute, bool]] = {
    "local": (Attribute.LOCAL, False),
    "sensitive": (Attribute.SENSITIVE, False),
    "always_sensitive": (Attribute.ALWAYS_SENSITIVE, False),
    "extractable": (Attribute.EXTRACTABLE, True),
    "never_extractable": (Attribute.NEVER_EXTRACTABLE, False),
    "sign": (Attribute.SIGN, False),
    "derive": (Attribute.DERIVE, False),
}


def describe_fault(error: Exception) -> list[str]:
    """The exception's name and text. Only the bindings' own texts are passed on: they hold no argument."""
    return [type(error).__name__, str(error) if isinstance(error, pkcs11.PKCS11Error) else ""]


class Module:
    """A loaded module and the sessions that are open on its tokens, by the tokens' serial number."""

    OPERATIONS: ClassVar[frozenset[str]] = frozenset(
        {
            "tokens", "agrees", "login", "logout", "keys", "certificates", "sign", "derive",
            "generate", "store_certificate", "remove", "remove_labelled", "relabel", "init_token", "init_pin",
        }
    )  # fmt: skip

    def __init__(self, path: str) -> None:
        self._path = path
        self._library = pkcs11.lib(path)
        self._sessions: dict[str, pkcs11.Session] = {}
        self._keys: dict[tuple[str, bytes], Any] = {}

    def tokens(self) -> list[dict[str, Any]]:
        """Every token present, with its slot's number (which outlives no restart) and its flags."""
        found = []
        for slot in self._library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
                continue
            flags = token.flags
            found.append(
                {
                    "slot": slot.slot_id,
                    "uri": {
                        "token": token.label,
                        "manufacturer": token.manufacturer_id,
                        "serial": _text(token.serial),
                        "model": token.model,
                        "slot-manufacturer": slot.manufacturer_id.rstrip(" \0"),
                        "slot-description": slot.slot_description.rstrip(" \0"),
                        "library-manufacturer": self._library.manufacturer_id,
                        "library-description": self._library.library_description,
                        "library-version": "{}.{}".format(*self._library.library_version),
                    },
                    "initialized": bool(flags & TokenFlag.TOKEN_INITIALIZED),
                    "pin_set": bool(flags & TokenFlag.USER_PIN_INITIALIZED),
                    "pin_count_low": bool(flags & TokenFlag.USER_PIN_COUNT_LOW),
                    "pin_final_try": bool(flags & TokenFlag.USER_PIN_FINAL_TRY),
                    "pin_locked": bool(flags & TokenFlag.USER_PIN_LOCKED),
                }
            )
        return found

    def agrees(self, serial: str) -> bool:
        """Does the token do ECDH at all? Its own word, as no module's version tells."""
        return Mechanism.ECDH1_DERIVE in self._session(serial).token.slot.get_mechanisms()

    def login(self, slot: int, serial: str, pin: str | None, writable: bool, officer: bool) -> None:
        """Open a session and log in as user or security officer, one C_Login; without a PIN none."""
        token = self._token(slot, serial)
        if officer:
            self._sessions[serial] = token.open(rw=writable, so_pin=pin)
        else:
            self._sessions[serial] = token.open(rw=writable, user_pin=pin)

    def logout(self, serial: str) -> None:
        session = self._sessions.pop(serial, None)
        self._keys = {known: key for known, key in self._keys.items() if known[0] != serial}
        if session is not None:
            session.close()

    def keys(self, serial: str) -> list[dict[str, Any]]:
        """Every elliptic-curve private key, with its public point where it is a key of P-256."""
        session = self._session(serial)
        points = {
            bytes(_read(public, Attribute.ID, b"")): _point(public)
            for public in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
        }
        found = []
        for private in list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})):
            cka_id = bytes(_read(private, Attribute.ID, b""))
            self._keys[serial, cka_id] = private
            found.append(
                {
                    "id": cka_id,
                    "label": str(_read(private, Attribute.LABEL, "")),
                    "point": points.get(cka_id),
                    "attributes": {
                        name: bool(_read(private, attribute, unknown))
                        for name, (attribute, unknown) in _ATTRIBUTES.items()
                    },
                }
            )
        return found

    def certificates(self, serial: str) -> list[dict[str, Any]]:
        session = self._session(serial)
        return [
            {
                "id": bytes(_read(found, Attribute.ID, b"")),
                "label": str(_read(found, Attribute.LABEL, "")),
                "der": bytes(_read(found, Attribute.VALUE, b"")),
            }
            for found in list(session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE}))
        ]

    def sign(self, serial: str, key: bytes, digest: bytes) -> bytes:
        """Raw ECDSA over a digest: r and s. SoftHSM has no mechanism that hashes as well."""
        return bytes(self._key(serial, key).sign(digest, mechanism=Mechanism.ECDSA))

    def derive(self, serial: str, key: bytes, point: bytes) -> bytes:
        """ECDH without a KDF: the shared x coordinate.

        PKCS#11 v3.0, section 2.3.10 (CKM_ECDH1_DERIVE). A point wrapped in DER works on SoftHSM alone.
        """
        if not is_point(point):
            raise TokenError("bad-point", "the peer's public key is not a point of P-256")
        # Not the key's own method: a key that keeps its CKA_DERIVE to itself has none.
        secret = _derive_key(
            self._key(serial, key),
            KeyType.GENERIC_SECRET,
            _SECRET_BYTES * 8,
            capabilities=0,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(KDF.NULL, None, point),
            template={
                Attribute.SENSITIVE: False,
                Attribute.EXTRACTABLE: True,
                Attribute.TOKEN: False,
                Attribute.PRIVATE: False,
            },
        )
        try:
            return bytes(secret[Attribute.VALUE])
        finally:
            secret.destroy()

    def generate(
        self,
        serial: str,
        key: bytes,
        label: str,
        sign: bool,
        derive: bool,
        extractable_settable: bool,
        uses_settable: bool,
    ) -> None:
        """Generate a key pair of P-256 on the token, its private half sensitive and never extractable.

        What it may be used for is read back later, as are the rest of its attributes.
        """
        capabilities = MechanismFlag(0)
        if sign:
            capabilities |= MechanismFlag.SIGN | MechanismFlag.VERIFY
        if derive:
            capabilities |= MechanismFlag.DERIVE
        unsaid = {} if uses_settable else dict.fromkeys(_USES, DEFAULT)
        private = {**unsaid, Attribute.SENSITIVE: True}
        if derive and not uses_settable:
            # TPM 2.0 library, part 3, 14.5 (TPM2_ECDH_ZGen): the key has to be one for decryption.
            private |= {Attribute.DERIVE: True, Attribute.DECRYPT: True}
        if extractable_settable:
            private[Attribute.EXTRACTABLE] = False
        parameters = self._session(serial).create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: P256_PARAMETERS}, local=True
        )
        parameters.generate_keypair(
            id=key,
            label=label,
            store=True,
            capabilities=capabilities,
            mechanism=Mechanism.EC_KEY_PAIR_GEN,
            public_template=unsaid,
            private_template=private,
        )

    def store_certificate(
        self,
        serial: str,
        key: bytes,
        label: str,
        der: bytes,
        subject: bytes,
        issuer: bytes,
        number: bytes,
        in_place: bool,
    ) -> None:
        """Store a certificate beside its key, in place of an earlier one of that key.

        With ``in_place`` the token has one place for it, and storing overwrites what was there.
        """
        session = self._session(serial)
        template = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.ID: key}
        earlier = [] if in_place else list(session.get_objects(template))
        session.create_object(
            {
                **template,
                Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: False,
                Attribute.LABEL: label,
                Attribute.SUBJECT: subject,
                Attribute.ISSUER: issuer,
                Attribute.SERIAL_NUMBER: number,
                Attribute.VALUE: der,
            }
        )
        for certificate in earlier:
            certificate.destroy()

    def remove(self, serial: str, key: bytes) -> None:
        """Destroy a key pair and its certificate."""
        for found in self._pair(serial, {Attribute.ID: key}):
            found.destroy()

    def remove_labelled(self, serial: str, label: str) -> None:
        """The same, of whatever has this label: a half without the other is known by nothing else."""
        for found in self._pair(serial, {Attribute.LABEL: label}):
            found.destroy()

    def relabel(self, serial: str, key: bytes, label: str) -> None:
        """Give a key's certificate and both its halves another label."""
        for found in self._pair(serial, {Attribute.ID: key}):
            if _read(found, Attribute.LABEL, "") != label:
                found[Attribute.LABEL] = label

    def _pair(self, serial: str, named: dict[Attribute, Any]) -> list[Any]:
        session = self._session(serial)
        return [
            found
            for kind in _PRIVATE_LAST
            for found in list(session.get_objects({Attribute.CLASS: kind, **named}))
        ]

    def init_token(self, slot: int, serial: str, so_pin: str, label: str) -> None:
        """Initialise a token: everything on it is gone."""
        self._token(slot, serial)
        cryptoki.init_token(self._path, slot, so_pin, label)

    def init_pin(self, slot: int, so_pin: str, pin: str) -> None:
        """Set the user's PIN of a token that was initialised just now."""
        with self._slot(slot).get_token().open(rw=True, so_pin=so_pin) as session:
            session.init_pin(pin)

    def _slot(self, number: int) -> pkcs11.Slot:
        for slot in self._library.get_slots(token_present=True):
            if slot.slot_id == number:
                return slot
        raise pkcs11.TokenNotPresent()

    def _token(self, slot: int, serial: str) -> pkcs11.Token:
        token = self._slot(slot).get_token()
        if _text(token.serial) != serial:
            raise TokenError("token-changed", "another token is in the slot by now", "try again")
        return token

    def _session(self, serial: str) -> pkcs11.Session:
        try:
            return self._sessions[serial]
        except KeyError:
            raise pkcs11.UserNotLoggedIn() from None

    def _key(self, serial: str, key: bytes) -> Any:
        self._session(serial)
        try:
            return self._keys[serial, key]
        except KeyError:
            raise pkcs11.NoSuchKey() from None


def _text(serial: bytes) -> str:
    return serial.decode("utf-8", "replace").rstrip("\0 ")


def _read(found: pkcs11.Object, attribute: Attribute, unknown: Any) -> Any:
    """An attribute's value, or ``unknown`` where the module does not have it or will not say."""
    try:
        return found[attribute]
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed, KeyError):
        return unknown


def _point(public: pkcs11.Object) -> bytes | None:
    """The public key as 65 bytes of SEC1, or None if it is not one of P-256."""
    if _read(public, Attribute.EC_PARAMS, b"") != P256_PARAMETERS:
        return None
    value = bytes(_read(public, Attribute.EC_POINT, b""))
    # PKCS#11 v3.0, 2.3.3: DER of an OCTET STRING; some modules leave the wrapping out.
    if value[:2] == bytes((0x04, POINT_BYTES)) and len(value) == POINT_BYTES + 2:
        value = value[2:]
    return value if is_point(value) else None
