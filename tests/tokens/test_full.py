"""A token whose store is full or takes no writing: what is on it stays, and is told apart from success."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import open_token
from tokens.bench import SoftToken
from tokens.test_opened import verify


def remount(store: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", store], check=True)


async def works(token: SoftToken) -> None:
    opened = await open_token(token.module, token.uri, token.pin)
    verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
    await opened.close()


async def generates(token: SoftToken) -> None:
    await provision.generate(token.module, token.uri, token.pin, KeyRole.CA)


@pytest.mark.fault("a full token")
async def test_a_full_token_keeps_its_keys(small: SoftToken) -> None:
    filler = small.directory / "tokens" / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(TokenError) as refusal:
        await generates(small)
    assert refusal.value.reason == "token-fault"
    await works(small)
    report = await provision.show(small.module, small.uri, small.pin)
    assert set(report.keys) == {KeyRole.IDENTITY, KeyRole.DATA}
    assert not report.refused
    filler.unlink()
    await generates(small)


@pytest.mark.fault("a read-only token")
async def test_a_read_only_token(small: SoftToken) -> None:
    """SoftHSM does not even log in without writing; what matters is that it says so and comes back."""
    store = small.directory / "tokens"
    remount(store, "ro")
    for asked in (generates, works):
        with pytest.raises(TokenError) as refusal:
            await asked(small)
        assert refusal.value.reason in ("token-fault", "pin-in-doubt")
    remount(store, "rw")
    await works(small)
