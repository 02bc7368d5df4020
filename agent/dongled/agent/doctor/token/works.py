"""Does the token sign, and agree on the same secret as we do?"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from dongled.agent.doctor.api import Finding, Level, fatal, of_error, ok
from dongled.agent.doctor.token.case import Part, TokenCase, opened_check
from dongled.agent.wiring import key_pin
from dongled.tokens.api import KeyPins, KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.session import TokenSession, open_session

_UPDATE = "update the module; what it computes is wrong"


async def look(case: TokenCase, part: Part, session: TokenSession) -> Iterable[Finding]:
    findings = []
    for role in part.roles:
        try:
            right = await _works(case, part, role)
        except TokenError as error:
            findings.append(of_error(error, role.value, Level.FATAL))
        else:
            does = "agrees on secrets" if role is KeyRole.DATA else "signs"
            findings.append(
                ok(does, role.value) if right else fatal("its answer is wrong", _UPDATE, role.value)
            )
    return findings


async def _works(case: TokenCase, part: Part, role: KeyRole) -> bool:
    place = part.place()
    pins = KeyPins.to(role, key_pin(case.pin(role)))
    session = await open_session(
        place.module, place.uri, place.pin, frozenset({role}), pins, ledger=case.ledger
    )
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), session.keys[role].point)
        if role is KeyRole.DATA:
            peer = ec.generate_private_key(ec.SECP256R1())
            point = peer.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            return await session.derive(role, point, "") == peer.exchange(ec.ECDH(), public)
        digest = secrets.token_bytes(32)
        raw = await session.sign(role, digest)
    finally:
        await session.close()
    signature = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        public.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


CHECK = opened_check("token-works", "The token signs and does key agreement", look)
