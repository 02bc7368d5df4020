"""What is asked of a FIDO2 key: a credential, a secret, an assertion. Everything here blocks."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from fido2 import cbor
from fido2.client import ClientDataCollector, ClientError, Fido2Client, UserInteraction
from fido2.ctap import CtapDevice, CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.extensions import HmacSecretExtension
from fido2.webauthn import (
    CollectedClientData,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialType,
    UserVerificationRequirement,
)

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import usb
from dongled.tokens.fido.pcsc import PcscDevice
from dongled.tokens.pin import Pin

# A name that no website can have (RFC 2606, 2): no browser can be talked into using these credentials.
UNLOCK_RP = "unlock.dongled.invalid"
PRESENCE_RP = "presence.dongled.invalid"
TOUCH_SECONDS = 30.0
SALT_BYTES = 32
_ES256 = -7
_ERR = CtapError.ERR

# CTAP 2.1, 8.2: reason, message, hint.
_SAID: dict[int, tuple[str, str, str]] = {
    _ERR.NO_CREDENTIALS: ("fido-unknown", "this FIDO2 key is not enrolled", "insert one that is"),
    _ERR.CREDENTIAL_EXCLUDED: ("fido-known", "this FIDO2 key is enrolled already", "take another one"),
    _ERR.PIN_INVALID: ("fido-pin-wrong", "the FIDO2 key refused its PIN", "its tries are counted: make sure"),
    _ERR.PIN_AUTH_BLOCKED: ("fido-replug", "the FIDO2 key takes no PIN any more", "take it out and in again"),
    _ERR.PIN_BLOCKED: ("fido-pin-locked", "the FIDO2 key has locked its PIN", "use another key"),
    _ERR.PIN_NOT_SET: ("fido-unverifiable", "the FIDO2 key has no PIN", "set one with the key's own tool"),
    _ERR.UV_BLOCKED: ("fido-pin-locked", "the FIDO2 key knows no finger any more", "give its PIN"),
    _ERR.OPERATION_DENIED: ("fido-denied", "the FIDO2 key was told no", "try again and touch it"),
}
_PIN_WANTED = ("fido-pin-wanted", "the FIDO2 key asks for its own PIN", "`dongled token unlock --fido`")
_NO_SECRETS = ("fido-unable", "this FIDO2 key keeps no secrets (hmac-secret)", "take another one")
_UNTOUCHED = frozenset({_ERR.KEEPALIVE_CANCEL, _ERR.ACTION_TIMEOUT, _ERR.USER_ACTION_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at the key, for one operation of it.

    ``told`` is called when it waits for a touch; ``pin`` None: there is nobody who could be asked for it.
    """

    told: Callable[[], None]
    pin: Callable[[], Pin] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    seconds: float = TOUCH_SECONDS


@dataclass(frozen=True, slots=True)
class Registered:
    """``public_key`` is the credential's, a COSE key (RFC 9052, 7) in CBOR; ``count``: its counter."""

    credential: bytes
    public_key: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Assertion:
    """WebAuthn, 6.3.3: what the key signed and says; ``verified``: it knew who touched it."""

    credential: bytes
    authenticator_data: bytes
    signature: bytes
    verified: bool
    secret: bytes | None = field(default=None, repr=False)


class _Collector(ClientDataCollector):
    def __init__(self, kind: str, rp: str, challenge: bytes) -> None:
        self._data = client_data(kind, rp, challenge), rp

    def collect_client_data(self, options: Any) -> tuple[CollectedClientData, str]:
        return self._data


class _Interaction(UserInteraction):
    def __init__(self, person: Person) -> None:
        self._person = person

    def prompt_up(self) -> None:
        self._person.told()

    def request_pin(self, permissions: Any, rp_id: str | None) -> str:
        if self._person.pin is None:
            raise TokenError(
                "fido-pin-wanted", "the FIDO2 key asks for its PIN", "`dongled token unlock --fido`"
            )
        return self._person.pin().reveal()


def client_data(kind: str, rp: str, challenge: bytes) -> CollectedClientData:
    """What the key signs the hash of; WebAuthn, 5.8.1.1, says to the byte how it is written."""
    return CollectedClientData.create(type=kind, challenge=challenge, origin=f"https://{rp}")


def devices() -> Generator[CtapDevice, None, None]:
    """Every FIDO2 key there is; closed when the next one is asked for."""
    for device in chain(usb.list_devices(), PcscDevice.list_devices()):
        with closing(device):
            yield device


@contextmanager
def _holding(rp: str, credentials: Sequence[bytes]) -> Iterator[tuple[CtapDevice, bytes]]:
    """The key that has one of these credentials, and which. Raises TokenError."""
    found = False
    there = devices()
    with closing(there):
        for device in there:
            found = True
            for credential in credentials:
                if _has(device, rp, credential):
                    yield device, credential
                    return
    if found:
        raise TokenError(*_SAID[_ERR.NO_CREDENTIALS])
    raise TokenError("fido-absent", "there is no FIDO2 key", "insert one that is enrolled")


def _has(device: CtapDevice, rp: str, credential: bytes) -> bool:
    """Asked without a touch (CTAP 2.1, 6.2.2: "up" false)."""
    listed: list[Mapping[str, Any]] = [{"type": "public-key", "id": credential}]
    try:
        Ctap2(device).get_assertion(rp, bytes(32), listed, options={"up": False})
    except (CtapError, OSError, *usb.NONSENSE):
        return False
    return True


def present(rp: str, credentials: Sequence[bytes]) -> bytes:
    """Which of these credentials is on a key that is there. Raises TokenError."""
    with _holding(rp, credentials) as (_, credential):
        return credential


def register(
    rp: str, name: str, person: Person, *, verified: bool, known: Sequence[bytes] = (), secret: bool = False
) -> Registered:
    """A new credential on the one key that is there. Raises TokenError."""
    if sum(1 for _ in devices()) > 1:
        raise TokenError("fido-several", "there is more than one FIDO2 key", "leave only the new one in")
    there = devices()
    with closing(there), _errors(person) as event:
        device = next(there, None)
        if device is None:
            raise TokenError("fido-absent", "there is no FIDO2 key", "insert it")
        client = _client(device, _Collector("webauthn.create", rp, secrets.token_bytes(32)), person)
        if secret and "hmac-secret" not in client.info.extensions:
            raise TokenError(
                "fido-unable", "this FIDO2 key keeps no secrets (hmac-secret)", "take another one"
            )
        response = client.make_credential(
            {  # type: ignore[arg-type]  # a mapping will do
                "rp": {"id": rp, "name": "dongled"},
                "user": {"id": secrets.token_bytes(16), "name": name, "displayName": name},
                "challenge": bytes(32),
                "pubKeyCredParams": [{"type": "public-key", "alg": _ES256}],
                "excludeCredentials": [_descriptor(credential) for credential in known],
                "authenticatorSelection": {"userVerification": _requirement(verified)},
                "extensions": {"hmacCreateSecret": True} if secret else {},
            },
            event,
        )
        made = response.response.attestation_object.auth_data
        data = made.credential_data
        assert data is not None
        return Registered(data.credential_id, cbor.encode(dict(data.public_key)), made.counter)


def assertion(
    rp: str,
    credentials: Sequence[bytes],
    challenge: bytes,
    person: Person,
    *,
    verified: bool,
    salt: bytes | None = None,
) -> Assertion:
    """A touch; with ``salt`` also the credential's 32-byte secret for it. Raises TokenError."""
    with _holding(rp, credentials) as (device, credential), _errors(person) as event:
        client = _client(device, _Collector("webauthn.get", rp, challenge), person)
        response = client.get_assertion(
            {  # type: ignore[arg-type]  # a mapping will do
                "challenge": challenge,
                "rpId": rp,
                "allowCredentials": [_descriptor(credential)],
                "userVerification": _requirement(verified),
                "extensions": {"hmacGetSecret": {"salt1": salt}} if salt is not None else {},
            },
            event,
        ).get_response(0)
        data = response.response.authenticator_data
        got = response.client_extension_results.hmac_get_secret if salt is not None else None
        return Assertion(
            credential,
            bytes(data),
            response.response.signature,
            data.is_user_verified(),
            got.output1 if got is not None else None,
        )


def _client(device: CtapDevice, collector: ClientDataCollector, person: Person) -> Fido2Client:
    extension = HmacSecretExtension(allow_hmac_secret=True)  # type: ignore[no-untyped-call]  # it is not typed
    return Fido2Client(device, collector, _Interaction(person), [extension])


@contextmanager
def _errors(person: Person) -> Iterator[threading.Event]:
    """The event that ends the waiting for a touch, and one kind of error."""
    timer = threading.Timer(person.seconds, person.cancelled.set)
    timer.daemon = True
    timer.start()
    try:
        yield person.cancelled
    except ClientError as error:
        if error.code == ClientError.ERR.TIMEOUT:
            raise _said(_ERR.USER_ACTION_TIMEOUT) from None
        if error.code == ClientError.ERR.CONFIGURATION_UNSUPPORTED:
            raise _said(_ERR.PIN_NOT_SET) from None
        raise _said(error.cause.code if isinstance(error.cause, CtapError) else None) from None
    except CtapError as error:
        raise _said(error.code) from None
    except OSError as error:
        raise TokenError("fido-removed", f"the FIDO2 key is gone: {error}", "insert it again") from None
    except usb.NONSENSE:
        raise _said(None) from None
    finally:
        timer.cancel()


def _said(code: int | None) -> TokenError:
    if code in _UNTOUCHED:
        return TokenError("fido-untouched", "nobody touched the FIDO2 key", "touch it when it blinks")
    if code in _SAID:
        return TokenError(*_SAID[code])
    name = getattr(code, "name", "no answer")
    return TokenError("fido-fault", f"the FIDO2 key failed ({name})", "try it again, or another key")


def _descriptor(credential: bytes) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(type=PublicKeyCredentialType.PUBLIC_KEY, id=credential)


def _requirement(verified: bool) -> UserVerificationRequirement:
    return UserVerificationRequirement.REQUIRED if verified else UserVerificationRequirement.DISCOURAGED
