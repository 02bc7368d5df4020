"""Whose certificates are believed, and for what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dongled.config.base import FilePath, HttpUrl, Input, Sample, Section, TerminalOrAny
from dongled.config.schema.samples import UUID


class TrustSettings(Section):
    """Whose certificates are believed, and who of them may do what. Empty lists allow nobody."""

    roots: Annotated[
        tuple[FilePath, ...],
        Field(description="PEM files with the root certificates that terminals' certificates lead to."),
        Input(),
        Sample(["root.pem"], active=True),
    ] = ()
    minimum_assurance: Annotated[
        Literal["hardware", "software"],
        Field(description="The least assurance that a peer's certificates must state."),
    ] = "hardware"
    allow_viewers: Annotated[
        tuple[TerminalOrAny, ...],
        Field(
            description="Terminals that may have the keys of our streams; `*`: each certified as a viewer."
        ),
        Sample([UUID], active=True),
    ] = ()
    allow_publishers: Annotated[
        tuple[TerminalOrAny, ...],
        Field(
            description="Terminals whose streams are asked for and shown; `*`: each certified as a publisher."
        ),
        Sample([UUID], active=True),
    ] = ()
    require_attestation: Annotated[
        bool,
        Field(
            description="Grant keys only to terminals whose token's maker says that it made both their keys."
        ),
    ] = False
    attestation_roots: Annotated[
        tuple[FilePath, ...],
        Field(
            description="PEM files with the roots of such makers. What a terminal shows has to lead to one."
        ),
        Input(),
        Sample(["yubico-piv-ca-1.pem"]),
    ] = ()
    time_source: Annotated[
        Literal["untrusted", "rtc", "nts", "operator", "system"],
        Field(
            description="Who vouches for the time that certificates are checked against. `rtc`: the hardware "
            "clock; `nts`: chrony, while NTS authenticates its servers; `operator`: somebody, by `dongled "
            "confirm-time`; `system` believes this machine's clock as it is; `untrusted`: nobody, and "
            "nothing is granted."
        ),
    ] = "untrusted"
    revocation: Annotated[
        Literal["off", "crl", "ocsp", "either"],
        Field(
            description="How it is known that a certificate was not revoked. What is not known is refused; "
            "`either`: a good answer of one suffices. `off` takes nothing for revoked, and is for labs."
        ),
    ] = "either"
    revocation_responder: Annotated[
        HttpUrl | None,
        Field(description="OCSP responder to ask, instead of those that certificates name."),
        Sample("http://ocsp.example.com"),
    ] = None
    revocation_crls: Annotated[
        tuple[FilePath, ...],
        Field(description="CRLs to read (PEM or DER), instead of those that certificates name."),
        Input(),
        Sample(["root.crl"]),
    ] = ()
    revocation_crl_urls: Annotated[
        tuple[HttpUrl, ...],
        Field(description="The same, to fetch."),
        Sample(["http://pki.example.com/root.crl"]),
    ] = ()
    revocation_max_age: Annotated[
        int,
        Field(
            description="Seconds after which an answer is too old, even if it claims to hold longer.",
            ge=60,
            le=31 * 86_400,
        ),
    ] = 86_400
    revocation_refresh: Annotated[
        int,
        Field(
            description="Seconds after which it is asked again about a terminal in the meeting: a "
            "revocation is noticed as late as that.",
            ge=5,
            le=86_400,
        ),
    ] = 120
    revocation_grace: Annotated[
        int,
        Field(
            description="Seconds for which a good answer still counts after it ran out, when nothing newer "
            "can be had. 0: whoever cannot be asked about gets no key.",
            ge=0,
            le=31 * 86_400,
        ),
    ] = 0
