"""Figures for those who watch many terminals."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dongled.config.base import Sample, Section


def _local(text: str) -> str:
    """Who asks is not asked for a name, so nobody from elsewhere may ask."""
    if text.startswith("/"):
        return text
    try:
        parts = urlsplit(f"//{text}")
        host, port = ipaddress.ip_address(parts.hostname or ""), parts.port
    except ValueError:
        raise PydanticCustomError("listen", "must be IP:PORT, [IP]:PORT or the path of a socket") from None
    if not host.is_loopback or not port or parts.netloc != text or parts.username is not None:
        raise PydanticCustomError("listen", "must be of this machine alone: 127.0.0.1:PORT, or a path")
    return text


class MetricsSettings(Section):
    """Figures for Prometheus, at /metrics. Nobody can ask for them unless it is said where."""

    listen: Annotated[
        str | None,
        AfterValidator(lambda text: None if text is None else _local(text)),
        Field(
            description="127.0.0.1:PORT or [::1]:PORT, for every user of this machine; or the path of a Unix "
            "socket, for those who may use the control socket.",
        ),
        Sample("127.0.0.1:9469"),
    ] = None
