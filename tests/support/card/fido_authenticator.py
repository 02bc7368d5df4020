"""A FIDO2 authenticator's commands: CBOR in, CBOR out (CTAP 2.1, section 6).

Credentials are not discoverable, ES256 only, with self attestation. It has a PIN, no fingerprint reader.
https://fidoalliance.org/specs/fido-v2.1-ps-20210615/fido-client-to-authenticator-protocol-v2.1-ps-20210615.html
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from support.card.fido_errors import CtapRefused, Status
from support.card.fido_pin import FidoPin, PinProtocol

AAGUID = bytes.fromhex("646f6e676c65642d7465737420636172")
MAX_MESSAGE = 1200
_ES256 = -7
_UP, _UV, _ATTESTED, _EXTENSIONS = 0x01, 0x04, 0x40, 0x80
_MAKE_CREDENTIAL, _GET_ASSERTION = 0x01, 0x02
_EXTENSION = "hmac-secret"


class Touch:
    """Somebody's finger. ``asked`` tells that the key blinks; each touch serves one command."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._touches = threading.Semaphore(0)

    def touch(self) -> None:
        """Touch it now, or as soon as it asks."""
        self._touches.release()

    def given(self) -> bool:
        given = self._touches.acquire(blocking=False)
        if given:
            self.asked.clear()
        else:
            self.asked.set()
        return given


class TouchWanted(Exception):
    """The command waits for a touch, and has changed nothing yet: give it again."""


@dataclass(slots=True)
class Credential:
    """``with_uv`` and ``without_uv`` are its two CredRandoms (12.5)."""

    rp: str
    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    with_uv: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    without_uv: bytes = field(default_factory=lambda: secrets.token_bytes(32))


class Authenticator:
    """``counter`` is the signature counter of all its credentials, and a test's to turn back."""

    def __init__(self, pin: str | None = None, protocols: tuple[int, ...] = (2, 1)) -> None:
        self.pin = FidoPin(pin)
        self.touch = Touch()
        self.credentials: dict[bytes, Credential] = {}
        self.counter = 0
        self._protocols = {version: PinProtocol(version) for version in protocols}
        self._token = secrets.token_bytes(32)
        self._permissions = 0
        self._permitted_rp: str | None = None

    def powered_off(self) -> None:
        self.pin.powered_off()
        self._token, self._permissions = secrets.token_bytes(32), 0

    def perform(self, message: bytes) -> bytes:
        """One command: a status byte, and on success its CBOR. Raises TouchWanted."""
        commands: dict[int, Callable[[dict[Any, Any]], Any]] = {
            0x01: self._make_credential,
            0x02: self._get_assertion,
            0x04: self._get_info,
            0x06: self._client_pin,
            0x07: self._reset,
            0x0B: self._selection,
        }
        try:
            command = commands.get(message[0]) if message else None
            if command is None:
                raise CtapRefused(Status.INVALID_COMMAND)
            answer = command(_parameters(message[1:]))
        except CtapRefused as refusal:
            return bytes((refusal.status,))
        return b"\0" + (cbor2.dumps(answer, canonical=True) if answer is not None else b"")

    def _get_info(self, given: dict[Any, Any]) -> dict[int, Any]:
        """6.4."""
        return {
            1: ["FIDO_2_0", "FIDO_2_1"],
            2: [_EXTENSION],
            3: AAGUID,
            4: {"rk": False, "up": True, "clientPin": self.pin.is_set, "pinUvAuthToken": True,
                "makeCredUvNotRqd": True},
            5: MAX_MESSAGE,
            6: list(self._protocols),
            7: 8,
            8: 32,
            9: ["nfc"],
            10: [{"alg": _ES256, "type": "public-key"}],
            13: 4,
        }  # fmt: skip

    def _make_credential(self, given: dict[Any, Any]) -> dict[int, Any]:
        """6.1.2."""
        client_data, rp, parameters = _need(given, 1, bytes), _need(given, 2, dict), _need(given, 4, list)
        rp_id = _need(rp, "id", str)
        _need(_need(given, 3, dict), "id", bytes)
        self._probe(given)
        if not any(entry.get("alg") == _ES256 for entry in parameters):
            raise CtapRefused(Status.UNSUPPORTED_ALGORITHM)
        if given.get(7, {}).get("rk") or given.get(7, {}).get("up") is False:
            raise CtapRefused(Status.UNSUPPORTED_OPTION)
        verified = self._verified(given, 8, client_data, _MAKE_CREDENTIAL, rp_id)
        excluded = self._known(rp_id, given.get(5, []))
        self._require_touch()
        if excluded is not None:
            raise CtapRefused(Status.CREDENTIAL_EXCLUDED)
        extensions = {_EXTENSION: True} if given.get(6, {}).get(_EXTENSION) is True else {}
        name, credential = secrets.token_bytes(32), Credential(rp_id)
        self.credentials[name] = credential
        numbers = credential.private.public_key().public_numbers()
        public = {
            1: 2,
            3: _ES256,
            -1: 1,
            -2: numbers.x.to_bytes(32, "big"),
            -3: numbers.y.to_bytes(32, "big"),
        }
        attested = AAGUID + len(name).to_bytes(2, "big") + name + cbor2.dumps(public, canonical=True)
        data = self._authenticator_data(rp_id, _UP | _ATTESTED | verified * _UV, attested, extensions)
        signature = credential.private.sign(data + client_data, ec.ECDSA(hashes.SHA256()))
        return {1: "packed", 2: data, 3: {"alg": _ES256, "sig": signature}}

    def _get_assertion(self, given: dict[Any, Any]) -> dict[int, Any]:
        """6.2.2."""
        rp_id, client_data = _need(given, 1, str), _need(given, 2, bytes)
        self._probe(given)
        present = given.get(5, {}).get("up", True)
        verified = self._verified(given, 6, client_data, _GET_ASSERTION, rp_id)
        name = self._known(rp_id, given.get(3, []))
        if name is None:
            if present:
                self._require_touch()
            raise CtapRefused(Status.NO_CREDENTIALS)
        credential, wanted, extensions = self.credentials[name], given.get(4, {}).get(_EXTENSION), {}
        if wanted is not None:
            if not present:
                raise CtapRefused(Status.UNSUPPORTED_OPTION)
            secret = credential.with_uv if verified else credential.without_uv
            extensions[_EXTENSION] = self._hmac_secret(secret, wanted)
        if present:
            self._require_touch()
        data = self._authenticator_data(rp_id, present * _UP | verified * _UV, b"", extensions)
        signature = credential.private.sign(data + client_data, ec.ECDSA(hashes.SHA256()))
        return {1: {"id": name, "type": "public-key"}, 2: data, 3: signature}

    def _hmac_secret(self, secret: bytes, wanted: dict[Any, Any]) -> bytes:
        """12.5: one salt or two."""
        protocol = self._protocol(wanted.get(4, 1))
        key = protocol.decapsulate(_need(wanted, 1, dict))
        protocol.verify(key, _need(wanted, 2, bytes), wanted.get(3))
        salts = protocol.decrypt(key, wanted[2])
        if len(salts) not in (32, 64):
            raise CtapRefused(Status.INVALID_LENGTH)
        outputs = [hmac.digest(secret, salt, "sha256") for salt in (salts[:32], salts[32:]) if salt]
        return protocol.encrypt(key, b"".join(outputs))

    def _client_pin(self, given: dict[Any, Any]) -> dict[int, Any] | None:
        """6.5.5."""
        match _need(given, 2, int):
            case 1:
                return {3: self.pin.left, 4: False}
            case 2:
                return {1: self._protocol(given.get(1)).public_key()}
            case 3 | 4 | 5 | 9 as subcommand:
                protocol = self._protocol(given.get(1))
                key = protocol.decapsulate(_need(given, 3, dict))
                if subcommand in (3, 4):
                    self._set_pin(protocol, key, given, change=subcommand == 4)
                    return None
                self._check_pin(protocol, key, given)
                self._token = secrets.token_bytes(32)
                # 6.5.5.7.1: the older command permits both of what it was used for.
                self._permissions = _need(given, 9, int) if subcommand == 9 else 3
                self._permitted_rp = given.get(10)
                return {2: protocol.encrypt(key, self._token)}
            case _:
                raise CtapRefused(Status.INVALID_SUBCOMMAND)

    def _set_pin(self, protocol: PinProtocol, key: bytes, given: dict[Any, Any], *, change: bool) -> None:
        """6.5.5.5 and 6.5.5.6."""
        new = _need(given, 5, bytes)
        if change == (not self.pin.is_set):
            raise CtapRefused(Status.PIN_NOT_SET if change else Status.PIN_AUTH_INVALID)
        protocol.verify(key, new + (_need(given, 6, bytes) if change else b""), given.get(4))
        if change:
            self._check_pin(protocol, key, given)
        self.pin.set_padded(protocol.decrypt(key, new))

    def _check_pin(self, protocol: PinProtocol, key: bytes, given: dict[Any, Any]) -> None:
        self.pin.require_tries()
        self.pin.check(protocol.decrypt(key, _need(given, 6, bytes)))

    def _reset(self, given: dict[Any, Any]) -> None:
        """6.6."""
        self._require_touch()
        self.pin, self.credentials, self.counter = FidoPin(None), {}, 0

    def _selection(self, given: dict[Any, Any]) -> None:
        """6.9."""
        self._require_touch()

    def _probe(self, given: dict[Any, Any]) -> None:
        """6.1.2 and 6.2.2, step 1: an empty pinUvAuthParam asks for a touch, to tell keys apart."""
        if b"" in (given.get(8), given.get(6)):
            self._require_touch()
            raise CtapRefused(Status.PIN_INVALID if self.pin.is_set else Status.PIN_NOT_SET)

    def _verified(self, given: dict[Any, Any], at: int, message: bytes, permission: int, rp: str) -> bool:
        """Was the user verified? A PIN is what it has for that, and it proves itself by the token."""
        options = given.get(7 if at == 8 else 5, {})
        if at not in given:
            if options.get("uv"):
                raise CtapRefused(Status.UNSUPPORTED_OPTION)
            return False
        protocol = self._protocol(given.get(at + 1))
        protocol.verify(self._token, message, given[at])
        if not self._permissions & permission or self._permitted_rp not in (None, rp):
            raise CtapRefused(Status.PIN_AUTH_INVALID)
        return True

    def _protocol(self, version: Any) -> PinProtocol:
        if version is None:
            raise CtapRefused(Status.MISSING_PARAMETER)
        if version not in self._protocols:
            raise CtapRefused(Status.INVALID_PARAMETER)
        return self._protocols[version]

    def _known(self, rp: str, listed: list[Any]) -> bytes | None:
        names = [entry.get("id") for entry in listed]
        return next(
            (name for name in names if name in self.credentials and self.credentials[name].rp == rp), None
        )

    def _require_touch(self) -> None:
        if not self.touch.given():
            raise TouchWanted
        # 6.1.2, step 14: a touch uses up what the token permits.
        self._permissions = 0

    def _authenticator_data(self, rp: str, flags: int, attested: bytes, extensions: dict[str, Any]) -> bytes:
        """WebAuthn, 6.1. https://www.w3.org/TR/webauthn-3/#sctn-authenticator-data"""
        self.counter += 1
        head = hashlib.sha256(rp.encode()).digest() + bytes((flags | bool(extensions) * _EXTENSIONS,))
        tail = cbor2.dumps(extensions, canonical=True) if extensions else b""
        return head + self.counter.to_bytes(4, "big") + attested + tail


def _parameters(data: bytes) -> dict[Any, Any]:
    if not data:
        return {}
    try:
        given = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError):
        raise CtapRefused(Status.INVALID_CBOR) from None
    if not isinstance(given, dict):
        raise CtapRefused(Status.CBOR_UNEXPECTED_TYPE)
    return given


def _need(given: dict[Any, Any], key: int | str, kind: type) -> Any:
    if key not in given:
        raise CtapRefused(Status.MISSING_PARAMETER)
    if not isinstance(given[key], kind):
        raise CtapRefused(Status.CBOR_UNEXPECTED_TYPE)
    return given[key]
