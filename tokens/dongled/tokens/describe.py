"""From a worker's answers to the types of this room's api; a worker that answers nonsense is at fault."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens import quirks as known_quirks
from dongled.tokens.api import KeyAttributes, TokenInfo
from dongled.tokens.errors import TokenError
from dongled.tokens.quirks import Quirks
from dongled.tokens.uri import TOKEN_ATTRIBUTES, Pkcs11Uri

T = TypeVar("T")

# RFC 5280, 4.1: version 3, then a serial number of 0, which 4.1.2.2 forbids. ykcs11 puts such an empty
# certificate beside each key that it has generated.
_SERIAL_ZERO = bytes.fromhex("A003020102020100")
_HEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A token and where it is just now; ``names`` are all attributes that a URI can match."""

    slot: int
    names: Mapping[str, str]
    info: TokenInfo
    quirks: Quirks = known_quirks.NONE


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A private key on a token. ``point`` is None unless it is one of P-256 with its public half there."""

    cka_id: bytes
    label: str
    point: bytes | None
    attributes: KeyAttributes


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    cka_id: bytes
    label: str
    der: bytes


def tokens(answer: object) -> list[FoundToken]:
    """Read the answer to ``tokens``. Raises TokenError."""
    return [_token(entry) for entry in _list_of(answer)]


def keys(answer: object) -> list[FoundKey]:
    """Read the answer to ``keys``. Raises TokenError."""
    found = []
    for entry in _list_of(answer):
        attributes = _get(entry, "attributes", dict)
        found.append(
            FoundKey(
                cka_id=_get(entry, "id", bytes),
                label=_get(entry, "label", str),
                point=None if entry.get("point") is None else octets(entry["point"], 65),
                attributes=KeyAttributes(
                    **{name: _get(attributes, name, bool) for name in KeyAttributes.__slots__}
                ),
            )
        )
    return found


def certificates(answer: object, quirks: Quirks = known_quirks.NONE) -> list[FoundCertificate]:
    """Read the answer to ``certificates``. Raises TokenError."""
    return [entry for entry in _certificates(answer) if not _attests(entry, quirks)]


def attestation(answer: object, quirks: Quirks, keys: Sequence[bytes]) -> tuple[bytes, ...]:
    """Of the same answer, the maker's word (DER) for each key by CKA_ID, then who signed it, if there is any.

    Raises TokenError.
    """
    found = [entry for entry in _certificates(answer) if _attests(entry, quirks)]
    signers = [entry.der for entry in found if entry.label == quirks.attestation]
    words = [entry.der for key in keys for entry in found if entry.cka_id == key and entry.der not in signers]
    return (*words, *signers) if words else ()


def _certificates(answer: object) -> list[FoundCertificate]:
    return [
        FoundCertificate(_get(entry, "id", bytes), _get(entry, "label", str), _get(entry, "der", bytes))
        for entry in _list_of(answer)
    ]


def _attests(entry: FoundCertificate, quirks: Quirks) -> bool:
    return quirks.attestation is not None and entry.label.startswith(quirks.attestation)


def octets(answer: object, length: int) -> bytes:
    """Exactly so many bytes. Raises TokenError."""
    if not isinstance(answer, bytes) or len(answer) != length:
        raise _nonsense()
    return answer


def issued_at(der: bytes) -> float:
    """When a certificate begins, in seconds since 1970; of two certificates of a key the later one counts."""
    try:
        return x509.load_der_x509_certificate(der).not_valid_before_utc.timestamp()
    except (ValueError, x509.InvalidVersion):
        return -math.inf


def public_key_sha256(point: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo (RFC 5480) of a public key given as 65 bytes of SEC1."""
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return hashlib.sha256(
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).digest()


def certified_point(der: bytes) -> bytes | None:
    """The certificate's public key as 65 bytes of SEC1, or None if it is not one of P-256."""
    if _SERIAL_ZERO in der[:_HEAD_BYTES]:
        return None
    try:
        public = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        return None
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _token(entry: dict[Any, Any]) -> FoundToken:
    names = _get(entry, "uri", dict)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in names.items()):
        raise _nonsense()
    # A blank token has neither label nor serial; empty attributes would name nothing but blank ones.
    path = {name: names[name] for name in TOKEN_ATTRIBUTES if names.get(name)}
    quirks = known_quirks.of(names)
    if quirks.label_wanders:
        path.pop("token", None)
    return FoundToken(
        slot=_get(entry, "slot", int),
        names=names,
        quirks=quirks,
        info=TokenInfo(
            uri=str(Pkcs11Uri(path)),
            label=_get(names, "token", str),
            serial=_get(names, "serial", str),
            model=_get(names, "model", str),
            manufacturer=_get(names, "manufacturer", str),
            initialized=_get(entry, "initialized", bool),
            pin_set=_get(entry, "pin_set", bool),
            pin_count_low=_get(entry, "pin_count_low", bool),
            pin_final_try=_get(entry, "pin_final_try", bool),
            pin_locked=_get(entry, "pin_locked", bool),
        ),
    )


def _list_of(answer: object) -> Sequence[dict[Any, Any]]:
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise _nonsense()
    return answer


def _get(entry: Mapping[Any, Any], name: str, kind: type[T]) -> T:
    value = entry.get(name)
    if not isinstance(value, kind):
        raise _nonsense()
    return value


def _nonsense() -> TokenError:
    return TokenError(
        "token-fault", "the token's module answered something that makes no sense", "update the module"
    )
