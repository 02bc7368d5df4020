"""What is played on the device: how its cause is named while it lasts, and how long it takes to recover."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from lab.device import COMMAND_SECONDS, Device

NOTICE_SECONDS = 180.0


@dataclass(frozen=True)
class Row:
    """A line of the table: what was played, what became of it and how soon, and what named the cause."""

    what: str
    result: str
    seconds: float | None = None
    named: str = ""


@dataclass
class Fault:
    """One of them while it lasts. ``cursor`` is where the device's journal was before; empty: its boot."""

    device: Device
    cursor: str
    warned: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    began: float | None = None

    def begins(self) -> None:
        """Recovery is counted from here on, and not from where the block ends."""
        self.began = time.monotonic()

    def journal(self, pattern: str) -> None:
        """Wait until an entry about dongled has it, an extended regular expression."""
        self.named.append(self._found(pattern))

    def warning(self, name: str, because: str = "", status: str = "") -> None:
        """A warning of this id, and its reason, are in the journal and in what both commands say.

        ``status`` is what that command says in its place.
        """
        entry = self._found(f"{name}.*{because}" if because else name)
        words = [match.group() for part in (name, because) if part and (match := re.search(part, entry))]
        self.warned.append(words[0])
        self.named.append(" ".join(words))
        self.told(status=status or f"(?s){name}.*{because}", doctor=f"{because}.*{name}|{name}.*{because}")

    def told(self, *, status: str, doctor: str) -> None:
        """What both commands say of it, as regular expressions. They start slowly, so they do so together."""
        output = self.device.machine.run(
            "dongled status >/tmp/status 2>&1 & dongled doctor >/tmp/doctor 2>&1; wait; "
            "cat /tmp/status; echo ---; cat /tmp/doctor",
            2 * COMMAND_SECONDS,
        )
        by_status, _, by_doctor = output.partition("---\n")
        assert re.search(status, by_status), f"status does not say {status}:\n{by_status}"
        assert re.search(doctor, by_doctor), f"doctor does not say {doctor}:\n{by_doctor}"

    def over(self) -> None:
        """The journal says that each warning has ended."""
        for name in self.warned:
            self._found(f"no longer: {name}")

    def _found(self, pattern: str) -> str:
        since = f"--after-cursor='{self.cursor}'" if self.cursor else "-b"
        search = f"journalctl -q -o cat -u dongled {since} | grep -E -m 1 -o -e '{pattern}' || true"
        return self.device.machine.until(search, NOTICE_SECONDS).strip()


def table(rows: list[Row]) -> list[str]:
    heads = ("what", "result", "took", "named by")
    cells = [
        heads,
        *((r.what, r.result, "" if r.seconds is None else f"{r.seconds:.1f} s", r.named) for r in rows),
    ]
    wide = [max(len(row[column]) for row in cells) for column in range(3)]
    return [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d}".rstrip() for a, b, c, d in cells]
