"""The one check of a public point that must not depend on the module (public data only)."""

from __future__ import annotations

POINT_BYTES = 65

# https://csrc.nist.gov/pubs/sp/800/186/final, section 3.2.1.3: P-256
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def is_point(point: object) -> bool:
    """Is this an uncompressed SEC1 point of P-256?

    NIST SP 800-56A rev. 3, section 5.6.2.3.3: coordinates in range and on the curve. With cofactor 1 that
    is full validation, and the point at infinity has no uncompressed form.
    """
    if not isinstance(point, bytes) or len(point) != POINT_BYTES or point[0] != 4:
        return False
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    return x < _P and y < _P and (y * y - (x * x * x - 3 * x + _B)) % _P == 0
