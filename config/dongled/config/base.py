"""What every section of the settings shares: kebab-case keys, nothing unknown, nothing mutable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from dongled.config.secrets import Credential, SecretSource


def kebab(name: str) -> str:
    return name.replace("_", "-")


class Section(BaseModel):
    """A table of the configuration. In Python fields go by name, in TOML by the kebab-case alias."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, validate_by_name=True, validate_by_alias=True
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """What `config init` writes for a key; commented out unless ``active``."""

    value: Any
    active: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """Marks a path that is read, so must exist; ``secret`` ones must be closed to others."""

    secret: bool = False


@dataclass(frozen=True, slots=True)
class Extra:
    """Marks a section that one can do without: `config init` comments it out."""


def _resolved(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return path if base is None else base / path


def _url(*schemes: str) -> AfterValidator:
    def check(url: str) -> str:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise PydanticCustomError("url", "is not a URL") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise PydanticCustomError("url", "must be {wanted} with a host", {"wanted": wanted})
        if parts.username is not None or parts.password is not None:
            raise PydanticCustomError("url", "must not hold a user or password; use the -file keys")
        if parts.fragment or any(c.isspace() for c in url):
            raise PydanticCustomError("url", "must not hold a fragment or white space")
        return url

    return AfterValidator(check)


Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
"""An id of a stream or the name of a credential's kin: lower-case letters, digits and hyphens."""

Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")]
"""Something people read: 1 to 64 characters, no control characters."""

RoomName = Annotated[str, StringConstraints(pattern=r"^[._-]*[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=44)]
"""A room on the SFU: a longer or stranger name makes Janus' TextRoom forget to tell who left."""

_URN = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

Terminal = Annotated[str, StringConstraints(pattern=f"^{_URN}$")]
"""A terminal's SAN URI (docs/certificates.md), lower case."""

TerminalOrAny = Annotated[str, StringConstraints(pattern=rf"^(\*|{_URN})$")]
"""The same, or ``*`` for each that holds a good certificate."""

FilePath = Annotated[Path, AfterValidator(_resolved)]
"""A path; a relative one is taken from the configuration file's directory."""

CredentialName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$")]
"""systemd.exec(5): a credential's name is a file name."""

StreamOrAny = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9-]{1,32})$")]
"""An id of a stream, or ``*`` for each."""

SfuUrl = Annotated[str, _url("ws", "wss")]
HttpUrl = Annotated[str, _url("http", "https")]
HttpsUrl = Annotated[str, _url("https")]
HexBytes = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){1,64}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

# RFC 7064 section 3.1 and RFC 7065 section 3.1: scheme:host[:port], no slashes, no user.
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
StunUrl = Annotated[str, StringConstraints(pattern=rf"^stuns?:{_HOST}$")]
TurnUrl = Annotated[str, StringConstraints(pattern=rf"^turns?:{_HOST}(\?transport=(udp|tcp))?$")]


def secret_source(file: Path | None, credential: str | None) -> SecretSource | None:
    """The one of the two that was configured."""
    return file if file is not None else Credential(credential) if credential is not None else None
