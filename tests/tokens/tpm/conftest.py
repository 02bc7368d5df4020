from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from support.tpm import swtpm
from support.tpm.bench import MODULE, URI, TpmToken, tpm_token


@pytest.fixture
def blank_tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TpmToken]:
    """A TPM of this test's own."""
    with swtpm.running(tmp_path) as running:
        token = tpm_token(running, tmp_path / "token")
        for name, value in token.env.items():
            monkeypatch.setenv(name, value)
        yield token


@pytest.fixture
async def tpm(blank_tpm: TpmToken) -> TpmToken:
    """The same with an identity key."""
    await provision.initialize(MODULE, "tpm", blank_tpm.so_pin, blank_tpm.pin)
    await provision.generate(MODULE, URI, blank_tpm.pin, KeyRole.IDENTITY)
    return blank_tpm
