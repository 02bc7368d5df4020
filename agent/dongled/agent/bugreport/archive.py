"""Puts a report together and writes it: every text goes through the redactor, whatever it is."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dongled.agent.bugreport.parts import Missing
from dongled.agent.bugreport.redact import Redactor
from dongled.agent.bugreport.secrets import Secrets
from dongled.agent.errors import AgentError


@dataclass(slots=True)
class Report:
    """Parts by their file's name; ``left_out`` says which are not there, and why."""

    secrets: Secrets
    parts: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add_data(self, name: str, value: Any) -> None:
        """What is ours and holds no secret by design: as JSON, and redacted all the same."""
        self.parts[name] = json.dumps(Redactor(self.secrets.values).data(value), indent=2)

    def add_text(self, name: str, make: Callable[[], str]) -> None:
        """What others write, too. Left out where there is a secret that it cannot be searched for."""
        if self.secrets.unread:
            unread = ", ".join(self.secrets.unread)
            self.left_out[name] = f"it cannot be searched for what could not be read: {unread}"
            return
        try:
            self.parts[name] = Redactor(self.secrets.values).text(make())
        except Missing as missing:
            self.left_out[name] = str(missing)

    def manifest(self) -> str:
        lines = [f"{name}: {len(text)} characters" for name, text in self.parts.items()]
        lines += [f"{name}: left out: {why}" for name, why in self.left_out.items()]
        lines += [f"searched for, and taken out: {name}" for name in self.secrets.names]
        return Redactor(self.secrets.values).text("\n".join(lines)) + "\n"


def check_new(path: Path) -> None:
    """Raises AgentError, ``file-exists``."""
    if path.exists():
        raise AgentError("file-exists", f"{path} is already there", "choose another --output")


def write(report: Report, path: Path, now: datetime) -> None:
    """A .tar.gz that only its owner may read, and that is not there yet. Raises AgentError."""
    check_new(path)
    files = {"MANIFEST": report.manifest(), **report.parts}
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AgentError("file-unwritable", f"{path}: {error.strerror}", "choose another --output") from None
    folder = path.name.removesuffix(".gz").removesuffix(".tar")
    with os.fdopen(file, "wb") as output, tarfile.open(fileobj=output, mode="w:gz") as archive:
        for name, text in files.items():
            content = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(now.timestamp())
            archive.addfile(member, io.BytesIO(content))
