"""DTLS without memory that can be both written and executed, which the service's sandbox denies.

aiortc accepts whatever certificate a peer shows in the handshake, and compares its fingerprint with the SDP's
afterwards (RFC 8122, section 5). It says so to OpenSSL by a callback that cffi makes at run time, in such
memory. ctypes' callbacks do without, by libffi's static trampolines.
"""

from __future__ import annotations

import ctypes
from typing import Any

from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCCertificate
from OpenSSL import SSL
from OpenSSL._util import ffi, lib


def _accept(_preverified: int, _store: int | None) -> int:
    return 1


# SSL_CTX_set_verify(3ssl). Kept for good: OpenSSL has its address.
_go_on = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(_accept)


# RFC 8827, section 6.5, and ChaCha20 beside it.
_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)


class _Certificate(RTCCertificate):
    def _create_ssl_context(self, srtp_profiles: list[Any]) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_options(SSL.OP_NO_TICKET)
        address = ctypes.cast(_go_on, ctypes.c_void_p).value
        go_on = ffi.cast("int (*)(int, X509_STORE_CTX *)", address)
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        lib.SSL_CTX_set_verify(context._context, mode, go_on)
        context.use_certificate(self._cert)
        context.use_privatekey(self._key)
        context.set_cipher_list(_CIPHERS)
        context.set_tlsext_use_srtp(b":".join(profile.openssl_profile for profile in srtp_profiles))
        return context


def certify(peer: RTCPeerConnection) -> None:
    """Give a new peer connection such a certificate, in place of aiortc's."""
    # An assignment names what mypy cannot see: aiortc keeps it private.
    setattr(peer, "_RTCPeerConnection__certificates", [_Certificate.generateCertificate()])  # noqa: B010
