"""What the demo claims, and whether it held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    text: str
    holds: Callable[[Report], bool]


def _protected(key: Mapping[str, Any]) -> bool:
    return (
        key["local"]
        and key["sensitive"]
        and key["always_sensitive"]
        and key["never_extractable"]
        and not key["extractable"]
    )


CLAIMS = (
    Claim(
        "control: in a plain meeting the eavesdropper watches",
        lambda report: report["control"]["eavesdropper_watchable"] > 0,
    ),
    Claim(
        "control: in a plain meeting the picture's bytes are found at the SFU",
        lambda report: report["control"]["plaintext_found"] > 0,
    ),
    Claim(
        "the viewer's pictures are the camera's (median PSNR of at least 30 dB)",
        lambda report: (report["viewer"]["psnr_db_median"] or 0) >= 30,
    ),
    Claim("the viewer opened frames", lambda report: report["viewer"]["frames_opened"] > 0),
    Claim("no frame failed to open", lambda report: report["viewer"]["frames_failed"] == 0),
    Claim(
        "the first picture came within 3 s of joining",
        lambda report: (
            report["viewer"]["first_frame_ms"] is not None and report["viewer"]["first_frame_ms"] <= 3000
        ),
    ),
    Claim(
        "the eavesdropper received the frames", lambda report: report["eavesdropper"]["frames_received"] > 0
    ),
    Claim(
        "the eavesdropper could watch none of them",
        lambda report: report["eavesdropper"]["frames_watchable"] == 0,
    ),
    Claim("the SFU forwarded nothing of the picture", lambda report: report["sfu"]["plaintext_found"] == 0),
    Claim(
        "the long-term keys were made on the tokens and cannot leave them",
        lambda report: all(
            _protected(key) for terminal in ("camera", "viewer") for key in report["token"][terminal]["keys"]
        ),
    ),
)


def judge(report: Report) -> list[tuple[str, bool]]:
    """Each claim and whether it holds."""
    return [(claim.text, claim.holds(report)) for claim in CLAIMS]
