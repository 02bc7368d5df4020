from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dongled.tokens import softhsm
from dongled.tokens.opened import OpenedToken, open_token
from dongled.tokens.pin import PinFile
from tokens.bench import SoftToken, new_pin, write_pin


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty SoftHSM, this test's own."""
    for name, value in softhsm.configure(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    """A provisioned token to copy; made once, since making one takes half a second."""
    directory = tmp_path_factory.mktemp("softhsm")
    pin, so_pin = new_pin(), new_pin()
    user, officer = PinFile(write_pin(directory / "pin", pin)), PinFile(write_pin(directory / "so", so_pin))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in softhsm.configure(directory).items():
            patch.setenv(name, value)
        module = softhsm.find_module()
        uri = asyncio.run(softhsm.provision_token(module, "terminal", officer, user))
    serial = uri.split("serial=")[1].split(";")[0]
    return SoftToken(module, uri, serial, directory, pin, so_pin)


@pytest.fixture
def token(template: SoftToken, store: Path) -> SoftToken:
    """A token of this test's own with an identity and a data key."""
    shutil.copytree(template.directory / "tokens", store / "tokens", dirs_exist_ok=True)
    for name in ("pin", "so"):
        shutil.copy2(template.directory / name, store / name)
    return SoftToken(
        template.module, template.uri, template.serial, store, template.pin_text, template.so_pin_text
    )


@pytest.fixture
def small(token: SoftToken, tmp_path: Path) -> Iterator[SoftToken]:
    """A token on a file system of its own; the whole run has mounts of its own."""
    store = token.directory / "tokens"
    kept = shutil.move(store, tmp_path / "kept")
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", store], check=True)
    try:
        shutil.copytree(kept, store, dirs_exist_ok=True)
        yield token
    finally:
        subprocess.run(["umount", store], check=True)


@pytest.fixture
async def opened(token: SoftToken) -> AsyncIterator[OpenedToken]:
    keys = await open_token(token.module, token.uri, token.pin)
    yield keys
    await keys.close()


@pytest.fixture(autouse=True)
def no_descriptor_is_leaked() -> object:
    before = len(os.listdir("/proc/self/fd"))
    yield
    # The event loop of an asynchronous test is still open here, with its selector and its socket pair.
    assert len(os.listdir("/proc/self/fd")) <= before + 3
