from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.enrolment.site import Site, Token
from dongled.tokens import softhsm
from dongled.tokens.pin import PinFile
from support.est import Platform, platform


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Token:
    """A token with both keys and no certificate, to copy; made once, since making one takes half a second."""
    folder = tmp_path_factory.mktemp("token")
    pins = [folder / "pin", folder / "so-pin"]
    for path in pins:
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(4))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in softhsm.configure(folder).items():
            patch.setenv(name, value)
        module = softhsm.find_module()
        user, officer = PinFile(pins[0]), PinFile(pins[1])
        uri = asyncio.run(softhsm.provision_token(module, "terminal", officer, user))
    return Token(module, uri, folder)


@pytest.fixture
def code() -> str:
    return secrets.token_urlsafe(12)


@pytest.fixture
def served(tmp_path: Path, code: str) -> Iterator[Platform]:
    with platform(tmp_path, code) as here:
        yield here


@pytest.fixture
def site(tmp_path: Path, blank: Token, served: Platform, code: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A terminal of this test's own, configured to ask the platform."""
    for name, value in softhsm.configure(tmp_path).items():
        monkeypatch.setenv(name, value)
    shutil.copytree(blank.folder / "tokens", tmp_path / "tokens", dirs_exist_ok=True)
    shutil.copy2(blank.folder / "pin", tmp_path / "pin")
    return Site.make(tmp_path, blank, served, code)
