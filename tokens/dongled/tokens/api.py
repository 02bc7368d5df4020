"""What the other rooms may know of a token: its keys' public halves, and two operations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol


class KeyRole(StrEnum):
    """What a key on the token is for: a terminal's two keys (PIV 9A and 9D), or a lab authority's one.

    The value is also the key's CKA_LABEL.
    """

    IDENTITY = "identity"
    DATA = "data"
    CA = "ca"


class Rank(IntEnum):
    """What goes first when a token has more to do than it can; a card takes up to 200 ms for each.

    A beacon that comes late takes a terminal for dead, an announcement keeps a round waiting, a grant one
    picture.
    """

    BEACON = 0
    ANNOUNCEMENT = 1
    GRANT = 2


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """What the token itself says of a private key (PKCS#11 v3.0, section 4.9)."""

    local: bool
    sensitive: bool
    always_sensitive: bool
    extractable: bool
    never_extractable: bool
    sign: bool
    derive: bool


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A P-256 key pair on the token.

    ``cka_id`` is its CKA_ID, ``point`` the public key as 65 bytes of uncompressed SEC1, ``sha256`` the
    SHA-256 of the public key's SubjectPublicKeyInfo (DER), ``certificate`` the certificate stored beside
    it (DER) or None.
    """

    role: KeyRole
    cka_id: bytes
    label: str
    point: bytes
    sha256: bytes
    attributes: KeyAttributes
    certificate: bytes | None

    @property
    def pin(self) -> KeyPin:
        """What says that it is this one."""
        return KeyPin(self.cka_id, self.sha256)


@dataclass(frozen=True, slots=True)
class KeyPin:
    """Which key it has to be: its CKA_ID, and the SHA-256 of its SubjectPublicKeyInfo (DER)."""

    cka_id: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class KeyPins:
    """Which token and keys a terminal accepts; None accepts what is found at the first opening.

    A token that was re-initialised keeps its serial number, so the serial alone pins nothing.
    """

    serial: str | None = None
    identity: KeyPin | None = None
    data: KeyPin | None = None

    @classmethod
    def to(cls, role: KeyRole, key: KeyPin) -> KeyPins:
        """Of a terminal's two keys this one alone."""
        return cls(identity=key) if role is KeyRole.IDENTITY else cls(data=key)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as its module describes it before anybody logged in (PKCS#11 v3.0, section 3.2).

    The PIN flags are the token's own: ``pin_final_try`` means that one more wrong PIN locks it.
    """

    uri: str
    label: str
    serial: str
    model: str
    manufacturer: str
    initialized: bool
    pin_set: bool
    pin_count_low: bool
    pin_final_try: bool
    pin_locked: bool


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """How many private-key operations the token did since it was opened."""

    sign: int
    derive: int


class TokenKeys(Protocol):
    """An opened token: logged in, its keys' pins and attributes checked."""

    @property
    def uri(self) -> str:
        """The token's RFC 7512 URI, without any PIN."""

    @property
    def identity(self) -> KeyInfo: ...

    @property
    def data(self) -> KeyInfo: ...

    @property
    def operations(self) -> OperationCounts: ...

    @property
    def attestation(self) -> tuple[bytes, ...]:
        """Certificates (DER) in which the token's maker says that it made these keys; or none."""

    async def sign(self, digest: bytes, rank: Rank = Rank.ANNOUNCEMENT) -> bytes:
        """ECDSA by the identity key over a 32-byte SHA-256 digest: 64 bytes, r and s (RFC 9053, 2.1).

        Raises TokenError. Who is cancelled while it waits for its turn costs the token nothing.
        """

    async def derive(self, point: bytes, peer: str) -> bytes:
        """ECDH by the data key with a 65-byte uncompressed SEC1 point: the 32-byte x coordinate.

        ``peer`` is the terminal whose message needs it: peers are served in turn, and few of each may wait.
        Raises TokenError, with reason ``bad-point`` for bytes that are not a point of P-256 and
        ``token-quota`` when too many wait for that peer. Cancelled as ``sign``.
        """

    async def close(self) -> None: ...
