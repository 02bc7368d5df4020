"""What has to hold of a token and its keys before they are used, at each opening.

1. The URI names exactly one token: no operation on somebody else's.
2. Its serial number is the pinned one: the label alone can be given to any token.
3. Its PIN is neither locked nor down to the last try: an unattended daemon never spends that one.
4. A role names exactly one key: nothing is signed by a namesake.
5. Its CKA_ID and public key are the pinned ones: a re-initialised token keeps its serial number.
6. The key was generated there, was sensitive and never extractable all its life, and is so now.
7. The key may do what its role needs, and the token can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dongled.tokens.api import KeyAttributes, KeyInfo, KeyPin, KeyPins, KeyRole, TokenInfo
from dongled.tokens.describe import (
    FoundCertificate,
    FoundKey,
    FoundToken,
    certified_point,
    issued_at,
    public_key_sha256,
)
from dongled.tokens.errors import TokenError
from dongled.tokens.quirks import NONE, Quirks, Watch
from dongled.tokens.uri import Pkcs11Uri

_REGENERATE = "generate a key on the token with `dongled token keygen`, and have it certified"


def the_token(
    uri: Pkcs11Uri, found: Sequence[FoundToken], pins: KeyPins | None, *, attended: bool = False
) -> FoundToken:
    """The one token that the URI names, ready for a login (checks 1 to 3). Raises TokenError.

    ``attended``: somebody gives the PIN for this very login.
    """
    token = named_token(uri, found)
    if pins is not None and pins.serial is not None and token.info.serial != pins.serial:
        raise TokenError(
            "token-other",
            f"the token's serial number is {token.info.serial}, not {pins.serial} as configured",
            "insert the right token, or pin the new one",
        )
    if token.info.pin_locked:
        raise TokenError("pin-locked", "the token's PIN is locked", "unblock it with the PUK or the SO PIN")
    if token.info.pin_final_try and not attended:
        raise TokenError(
            "pin-final-try",
            "one more wrong PIN locks the token, so none is tried",
            "be sure of the PIN, then give it to `dongled token unlock`, or to the token's own tool",
        )
    return token


def named_token(uri: Pkcs11Uri, found: Sequence[FoundToken]) -> FoundToken:
    """The one token that the URI names, whatever its PIN's state (check 1). Raises TokenError."""
    named = [token for token in found if token.info.initialized and uri.matches(token.names)]
    if not named:
        others = [token for token in found if token.quirks.watch is Watch.READER]
        if len(others) == 1:
            raise TokenError(
                "token-other",
                f"the token in {others[0].names.get('slot-description')} has the serial number "
                f"{others[0].info.serial or 'none'} and is not {uri}",
                "insert the right token; `dongled token list --module MODULE` shows what is there",
            )
        raise TokenError(
            "token-absent",
            f"no token matches {uri}",
            "insert it; `dongled token list --module MODULE` shows the tokens that are there",
        )
    if len(named) > 1:
        raise TokenError("token-ambiguous", f"{len(named)} tokens match {uri}", "add its serial to the URI")
    return named[0]


def check_agrees(token: TokenInfo, agrees: object) -> None:
    """Does the token do key agreement at all, as it says itself? Raises TokenError."""
    if agrees is not True:
        raise TokenError(
            "key-agreement",
            f"the token {token.label!r} cannot do key agreement (CKM_ECDH1_DERIVE), as its module says",
            "put the data key on another token ([data-token]); tpm2-pkcs11 can do it from 1.10 on",
        )


def the_key(
    role: KeyRole, found: Sequence[FoundKey], pin: KeyPin | None, quirks: Quirks = NONE
) -> tuple[FoundKey, bytes]:
    """The key of a role and its public point (checks 4 to 7). Raises TokenError."""
    if pin is not None:
        named = [key for key in found if key.cka_id == pin.cka_id]
    else:
        named = [key for key in found if quirks.is_for(role, key.cka_id, key.label)]
    if not named:
        which = f"labelled {role.value!r}"
        if (cka_id := pin.cka_id if pin is not None else quirks.places.get(role)) is not None:
            which = f"with CKA_ID {cka_id.hex()}"
        raise TokenError(
            "key-missing",
            f"there is no private key {which} on the token",
            f"`dongled token keygen --role {role.value}` makes one; `dongled token show` lists what is there",
        )
    if len(named) > 1 or sum(key.cka_id == named[0].cka_id for key in found) > 1:
        raise TokenError(
            "key-ambiguous",
            f"several private keys on the token answer to the {role.value} key's name",
            "pin the key's CKA_ID in the configuration, or delete the others",
        )
    key = named[0]
    _check_attributes(role, key.attributes, quirks)
    if key.point is None:
        raise TokenError(
            "key-kind", f"the {role.value} key is not one of P-256, or its public key is missing", _REGENERATE
        )
    if pin is not None and public_key_sha256(key.point) != pin.sha256:
        raise TokenError(
            "key-other",
            f"the {role.value} key's public key is not the pinned one",
            "was the token re-initialised? If you did that, pin the new key's SHA-256",
        )
    return key, key.point


def _check_attributes(role: KeyRole, attributes: KeyAttributes, quirks: Quirks) -> None:
    name = f"the {role.value} key"
    if not attributes.local:
        raise TokenError("key-imported", f"{name} was not generated on the token", _REGENERATE)
    if not attributes.sensitive or not attributes.always_sensitive:
        raise TokenError("key-not-sensitive", f"{name} is, or was, readable in clear", _REGENERATE)
    if attributes.extractable or not attributes.never_extractable:
        raise TokenError("key-extractable", f"{name} can leave the token, or could once", _REGENERATE)
    if not quirks.may(role, attributes):
        needed = "derive" if role is KeyRole.DATA else "sign"
        raise TokenError("key-usage", f"{name} may not {needed}", _REGENERATE)


def key_info(role: KeyRole, key: FoundKey, point: bytes, certificates: Sequence[FoundCertificate]) -> KeyInfo:
    """Put together what the api says of a key; a certificate counts only if it is of this very key."""
    # Storing writes the new one before it removes the old: a power cut in between leaves both.
    matching = [
        found.der
        for found in certificates
        if found.cka_id == key.cka_id and certified_point(found.der) == point
    ]
    certificate = max(matching, key=issued_at, default=None)
    return KeyInfo(
        role=role,
        cka_id=key.cka_id,
        label=key.label,
        point=point,
        sha256=public_key_sha256(point),
        attributes=key.attributes,
        certificate=certificate,
    )


def check_same(before: Mapping[KeyRole, KeyInfo], now: Mapping[KeyRole, KeyInfo]) -> None:
    """Are the keys those of the first opening, whether they are pinned or not? Raises TokenError."""
    for role, key in before.items():
        if (now[role].cka_id, now[role].sha256) != (key.cka_id, key.sha256):
            raise TokenError(
                "key-other",
                f"the {role.value} key is another one than when the token was opened",
                "was the token re-initialised or exchanged? Start again with the token you mean to use",
            )
