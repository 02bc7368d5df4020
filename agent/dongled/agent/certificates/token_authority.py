"""The lab authority's key and root, kept on a token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent.certificates.authority import CaError, load_certificate, make_root
from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.pin import PinSource
from dongled.tokens.private_key import signing_key


@dataclass(frozen=True, slots=True)
class Initialized:
    """The authority's root, and whether it had to be made."""

    root: x509.Certificate
    created: bool


def init(
    module: str,
    uri: str,
    pin: PinSource,
    subject: x509.Name | None,
    *,
    default: x509.Name,
    days: int,
    now: datetime,
) -> Initialized:
    """Make what is missing of the authority's key and root on the token.

    ``subject`` is what the root has to be called, ``default`` what a new one is called where that is
    None. Raises CaError ``root-exists`` where the root is called otherwise, TokenError.
    """
    try:
        with signing_key(module, uri, pin, KeyRole.CA) as key:
            stored = key.info.certificate
            root = load_certificate(stored) if stored else make_root(key, subject or default, days, now)
    except TokenError as error:
        if error.reason != "key-missing":
            raise
        asyncio.run(provision.generate(module, uri, pin, KeyRole.CA))
        return init(module, uri, pin, subject, default=default, days=days, now=now)
    if subject is not None and root.subject != subject:
        raise CaError(
            "root-exists",
            f"the token holds the root of {root.subject.rfc4514_string()} already",
            "leave out --subject to use that, or take another token",
        )
    if not stored:
        asyncio.run(provision.store_certificate(module, uri, pin, KeyRole.CA, root))
    return Initialized(root, created=not stored)


@contextmanager
def opened(
    module: str, uri: str, pin: PinSource
) -> Iterator[tuple[ec.EllipticCurvePrivateKey, x509.Certificate]]:
    """The authority's key and root, to issue with. Raises CaError ``no-root``, TokenError."""
    with signing_key(module, uri, pin, KeyRole.CA) as key:
        if key.info.certificate is None:
            raise CaError("no-root", "the token holds no root certificate", 'run "dongled ca init" first')
        yield key, load_certificate(key.info.certificate)
