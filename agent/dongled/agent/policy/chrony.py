"""What chrony says of the time, as ``chronyc -c -n -m tracking sources authdata`` prints it (chronyc(1)).

Believed only after this, in this order:

1. the shape       garbage, or another program's words
2. a server        a daemon without one, that believes itself or a radio clock
3. NTS             a server that anybody on the way can play; also one that others are averaged with
4. the distance    a clock that is wrong, or may be

What chrony takes from a server that is set up with NTS is authenticated (RFC 8915), or it does not take it.

A server that cannot be reached any longer (``?``) still counts as the one that the clock was set by, for the
age of what it said last. Whom it was averaged with chrony does not tell then: so each of its servers has to
have a key of NTS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import MAX_DIFFERENCE

_NAME = r"[0-9A-Za-z.:%_#-]{1,64}"
_FEW = r"[0-9]{1,2}"
_COUNT = r"[0-9]{1,10}"
_NUMBER = r"[-+]?[0-9]{1,12}\.[0-9]{1,12}"

_TRACKING = re.compile(
    rf"[0-9A-F]{{8}},(?P<name>(?:{_NAME})?),{_FEW},{_NUMBER},(?P<behind>{_NUMBER}),{_NUMBER},{_NUMBER},{_NUMBER},"
    rf"{_NUMBER},{_NUMBER},(?P<delay>{_NUMBER}),(?P<dispersion>{_NUMBER}),{_NUMBER},"
    r"(?P<leap>Normal|Insert second|Delete second|Not synchronised)"
)
_SOURCE = re.compile(
    rf"(?P<kind>[\^=#]),(?P<state>[*+?x~-]),(?P<name>{_NAME}),{_FEW},-?{_FEW},[0-7]{{1,3}},(?P<age>{_COUNT}),"
    rf"{_NUMBER},{_NUMBER},{_NUMBER}"
)
_AUTHENTICATION = re.compile(
    rf"(?P<name>{_NAME}),(?P<by>-|SK|NTS),{_COUNT},{_COUNT},(?P<bits>{_COUNT})(?:,{_COUNT}){{5}}"
)
# An error of chronyd, or that there is none: "506 Cannot talk to daemon".
_ERROR = re.compile(r"5[0-9]{2} [ -~]{1,80}")


@dataclass(frozen=True, slots=True)
class Measured:
    """The system's clock is ``behind`` seconds behind authenticated time, ``age`` seconds ago."""

    behind: float
    age: int


def measured(text: str) -> Measured:
    """Raises PolicyRefused ``time-nts-...``; ``time-differs`` where the clock is, or may be, too far off."""
    # 1.
    tracking, sources, keys = _read(text)
    # 2.
    used = [source for source in sources if source["state"] in "*+"]
    chosen = [source for source in used if source["state"] == "*"]
    if not chosen:
        used = sources
        chosen = [each for each in sources if each["state"] == "?" and each["name"] == tracking["name"]]
    if tracking["leap"] == "Not synchronised" or [each["name"] for each in chosen] != [tracking["name"]]:
        raise PolicyRefused(
            "time-nts-unsynchronised",
            "chrony is synchronised to no server",
            "wait a minute, or after a long time without a network: systemctl restart chrony; "
            "then see: chronyc -n sources, and chronyc -n authdata",
        )
    # 3.
    for source in used:
        key = keys.get(source["name"])
        if source["kind"] != "^" or key is None or key["by"] != "NTS" or int(key["bits"]) == 0:
            raise PolicyRefused(
                "time-nts-unauthenticated",
                f"chrony takes the time from {source['name']}, which NTS does not authenticate",
                "give chrony servers with `nts`, and `authselectmode require`; see: chronyc -n authdata",
            )
    # 4.
    behind = float(tracking["behind"])
    within = float(tracking["delay"]) / 2 + float(tracking["dispersion"])
    if not 0 <= within <= MAX_DIFFERENCE.total_seconds() - abs(behind):
        where = "behind" if behind > 0 else "ahead of"
        raise PolicyRefused(
            "time-differs",
            f"the clock is {abs(behind):.0f} s {where} authenticated time, give or take {within:.0f} s",
            "have chrony set it: makestep 1 3 in its configuration, or once: chronyc makestep",
        )
    return Measured(behind, int(chosen[0]["age"]))


_Line = re.Match[str]


def _read(text: str) -> tuple[_Line, list[_Line], dict[str, _Line]]:
    """What is tracked, the sources, and how each by name is authenticated."""
    if not text:
        raise unavailable("chronyc said nothing")
    first, *others = text.removesuffix("\n").split("\n")
    for line in (first, *others):
        if _ERROR.fullmatch(line):
            raise unavailable(f"chronyc said {line}")
    tracking = _TRACKING.fullmatch(first)
    sources = [found for line in others if (found := _SOURCE.fullmatch(line))]
    keys = {found["name"]: found for line in others if (found := _AUTHENTICATION.fullmatch(line))}
    names = {source["name"] for source in sources}
    if tracking is None or len(names) + len(keys) != len(others):
        raise malformed()
    return tracking, sources, keys


def unavailable(why: str) -> PolicyRefused:
    return PolicyRefused(
        "time-nts-unavailable",
        f"chrony cannot be asked: {why}",
        "see: systemctl status chrony dongled-time.socket",
    )


def malformed() -> PolicyRefused:
    return PolicyRefused(
        "time-nts-malformed",
        "chronyc said what no chrony says",
        "see: systemctl cat dongled-time@.service; it has to run Debian's chronyc",
    )
