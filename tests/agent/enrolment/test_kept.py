"""Which of two certificates of a key is in use: the one on the token or the one kept beside it."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from dongled.agent.enrolment.kept import KeptChains
from dongled.tokens.api import KeyAttributes, KeyInfo, KeyRole
from support.authority import NOW, Authority, der, new_key, point

DAEMON = 12345
ROOT = Authority.root()
LOWER = ROOT.intermediate()
KEY = new_key()
ATTRIBUTES = KeyAttributes(True, True, True, False, True, True, True)
OLD = LOWER.leaf(KEY, begin=NOW - timedelta(hours=2))
NEW = LOWER.leaf(KEY, begin=NOW - timedelta(hours=1))


def on_token(certificate: x509.Certificate | None, key: Any = KEY) -> KeyInfo:
    sec1 = point(key)
    held = None if certificate is None else der(certificate)
    return KeyInfo(KeyRole.IDENTITY, b"1", "identity", sec1, hashlib.sha256(sec1).digest(), ATTRIBUTES, held)


@pytest.fixture
def kept(tmp_path: Path) -> KeptChains:
    return KeptChains(tmp_path)


def chain(leaf: x509.Certificate) -> list[bytes]:
    return [der(leaf), der(LOWER.certificate)]


def test_the_one_that_begins_later(kept: KeptChains) -> None:
    assert kept.in_use(on_token(None)) == []
    assert kept.in_use(on_token(OLD)) == [der(OLD)]
    kept.keep(KeyRole.IDENTITY, chain(NEW))
    assert kept.in_use(on_token(None)) == kept.in_use(on_token(OLD)) == chain(NEW)
    # The same one, and what leads to it.
    assert kept.in_use(on_token(NEW)) == chain(NEW)
    kept.keep(KeyRole.IDENTITY, chain(OLD))
    assert kept.in_use(on_token(NEW)) == [der(NEW)]


def test_of_another_key_none_counts(kept: KeptChains) -> None:
    """The token was replaced, or its key made anew."""
    kept.keep(KeyRole.IDENTITY, chain(NEW))
    other = new_key()
    assert kept.in_use(on_token(None, other)) == []
    theirs = LOWER.leaf(other, begin=NOW - timedelta(hours=9))
    assert kept.in_use(on_token(theirs, other)) == [der(theirs)]


@pytest.mark.parametrize("made", [False, True])
def test_what_root_enrols_the_daemon_can_renew(kept: KeptChains, tmp_path: Path, made: bool) -> None:
    os.chown(tmp_path, DAEMON, DAEMON)
    directory = tmp_path / "certificates"
    if made:
        directory.mkdir()
        os.chown(directory, DAEMON, DAEMON)
    kept.keep(KeyRole.IDENTITY, chain(NEW))
    for path in (directory, directory / "identity.pem"):
        assert (path.stat().st_uid, path.stat().st_gid) == (DAEMON, DAEMON)


def test_root_writes_to_no_other_file(kept: KeptChains, tmp_path: Path) -> None:
    """The directory is the daemon's, and so is what it puts there."""
    roots = tmp_path / "shadow"
    roots.write_text("root's")
    (tmp_path / "certificates").mkdir()
    (tmp_path / f"certificates/identity.{os.getpid()}").symlink_to(roots)
    kept.keep(KeyRole.IDENTITY, chain(NEW))
    assert roots.read_text() == "root's"
    assert kept.load(KeyRole.IDENTITY) == chain(NEW)
