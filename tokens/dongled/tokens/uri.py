"""PKCS#11 URIs: how a token is named (RFC 7512). Parsed strictly; a URI that carries a PIN is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from dongled.tokens.errors import TokenError

MAX_LENGTH = 1024

# https://www.rfc-editor.org/rfc/rfc7512#section-2.3: characters that stand for themselves.
_COMMON = r"A-Za-z0-9\-._~:\[\]@!$'()*+,="
_PATH_VALUE = re.compile(rf"(?:[{_COMMON}&]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE = re.compile(rf"(?:[{_COMMON}/?|]|%[0-9A-Fa-f]{{2}})*")
_VENDOR_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LIBRARY_VERSION = re.compile(r"[0-9]+(\.[0-9]+)?")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

# Attributes that name a token, in the order in which they are written.
TOKEN_ATTRIBUTES = ("model", "manufacturer", "serial", "token")
_OBJECT_ATTRIBUTES = ("object", "type", "id")
_SLOT_ATTRIBUTES = ("slot-manufacturer", "slot-description", "slot-id")
_LIBRARY_ATTRIBUTES = ("library-manufacturer", "library-description", "library-version")
_PATH_ATTRIBUTES = TOKEN_ATTRIBUTES + _OBJECT_ATTRIBUTES + _SLOT_ATTRIBUTES + _LIBRARY_ATTRIBUTES
_QUERY_ATTRIBUTES = ("module-name", "module-path")
# Wherever it stands and however it goes on: what follows is not to be looked at, let alone repeated.
_PIN_ATTRIBUTE = re.compile(r"(?:^|[;?&])pin-(?:value|source)(?:[=;&?]|$)", re.IGNORECASE)
_TYPES = ("public", "private", "cert", "secret-key", "data")


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """A parsed URI: path attributes by name, percent-decoded (``id`` hexadecimal), and query attributes."""

    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{name}={_encode(name, self.path[name])}" for name in _PATH_ATTRIBUTES if name in self.path]
        text = "pkcs11:" + ";".join(parts)
        if self.query:
            text += "?" + "&".join(f"{name}={_encode(name, value)}" for name, value in self.query.items())
        return text

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Is every path attribute of this URI the same there? (RFC 7512, 2.5: an absent one matches all.)"""
        return all(attributes.get(name) == value for name, value in self.path.items())


def parse(text: str) -> Pkcs11Uri:
    """Parse a PKCS#11 URI. Raises TokenError; its message never repeats a URI that might hold a PIN."""
    if len(text) > MAX_LENGTH:
        _refuse("uri-too-long", f"a PKCS#11 URI of more than {MAX_LENGTH} characters")
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() != "pkcs11":
        _refuse("uri-scheme", "a token's URI begins with pkcs11:")
    if _PIN_ATTRIBUTE.search(rest):
        raise TokenError(
            "uri-holds-pin",
            "the token's URI carries a PIN or says where to find one",
            "take pin-value and pin-source out; give the PIN as a file, a credential or at the prompt",
        )
    path_text, question, query_text = rest.partition("?")
    if question and not query_text:
        _refuse("uri-syntax", "a PKCS#11 URI ends in a question mark")
    query = _attributes(query_text, "&", _QUERY_VALUE)
    path = _attributes(path_text, ";", _PATH_VALUE)
    for name in path:
        if name not in _PATH_ATTRIBUTES:
            _refuse("uri-attribute", f"unknown attribute {name!r} in a PKCS#11 URI")
    for name in query:
        if name not in _QUERY_ATTRIBUTES:
            _refuse("uri-attribute", f"unknown query attribute {name!r} in a PKCS#11 URI")
    return Pkcs11Uri(
        {name: _decode(name, value) for name, value in path.items()},
        {name: _decode(name, value) for name, value in query.items()},
    )


def parse_token(text: str) -> Pkcs11Uri:
    """Parse a URI that names a token and nothing else: no object, no slot number, no module."""
    uri = parse(text)
    if "slot-id" in uri.path:
        _refuse("uri-slot", "slot numbers change with every restart and name no token")
    for name in (*_OBJECT_ATTRIBUTES, *_QUERY_ATTRIBUTES):
        if name in uri.path or name in uri.query:
            _refuse("uri-not-token", f"a token's URI has no {name!r}")
    if not uri.path:
        _refuse("uri-empty", "a URI without attributes names every token")
    return uri


def _attributes(text: str, separator: str, allowed: re.Pattern[str]) -> dict[str, str]:
    """Split into name and still encoded value; each name at most once."""
    found: dict[str, str] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if not equals or not _VENDOR_NAME.fullmatch(name):
            _refuse("uri-syntax", "an attribute in a PKCS#11 URI is not name=value")
        if not allowed.fullmatch(value):
            _refuse("uri-syntax", f"the value of {name!r} holds a character that must be percent-encoded")
        if name in found:
            _refuse("uri-duplicate", f"{name!r} occurs twice in a PKCS#11 URI")
        found[name] = value
    return found


def _decode(name: str, value: str) -> str:
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), value.encode("ascii"))
    if name == "id":
        return raw.hex()
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("uri-encoding", f"the value of {name!r} is not UTF-8")
    if name == "type" and decoded not in _TYPES:
        _refuse("uri-syntax", "an object's type is one of " + ", ".join(_TYPES))
    if name == "slot-id" and not (decoded.isascii() and decoded.isdigit()):
        _refuse("uri-syntax", "a slot-id is a decimal number")
    if name == "library-version" and not _LIBRARY_VERSION.fullmatch(decoded):
        _refuse("uri-syntax", "a library-version is a number, or two with a dot between")
    return decoded


def _encode(name: str, value: str) -> str:
    if name == "id":
        return "".join(f"%{byte:02X}" for byte in bytes.fromhex(value))
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in value.encode("utf-8"))


def _refuse(reason: str, message: str) -> NoReturn:
    raise TokenError(reason, message, "`dongled token list --module MODULE` prints the URI of each token")
