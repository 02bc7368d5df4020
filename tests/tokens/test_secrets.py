"""Whatever happens to a token, its PINs and what it agrees on with peers are in no log and in no error."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens.errors import TokenError
from dongled.tokens.ledger_file import FileLedger
from dongled.tokens.opened import OpenedToken, open_token
from tokens.bench import SoftToken, point_of, proc
from tokens.test_faults import FakeClock, worker_of
from tokens.test_opened import public


def spelled(secret: bytes) -> list[str]:
    """As it would be found by whoever looks for it."""
    forms = [secret.decode("latin-1"), repr(secret)[2:-1], secret.hex(), secret.hex().upper()]
    return [*forms, base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode().rstrip("=")]


def told(error: BaseException) -> str:
    """All that an error shows of itself, with what it came from, as a log would have it."""
    chain, parts = error, [*traceback.format_exception(error)]
    while chain is not None:
        parts += [str(chain), repr(chain), repr(vars(chain)), str(getattr(chain, "hint", ""))]
        chain = chain.__cause__ or chain.__context__  # type: ignore[assignment]  # None at the end
    return "".join(parts)


class Watched:
    """What may have been seen of a token's use, and what must not be in it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.secrets: list[bytes] = []

    def look(self, opened: OpenedToken) -> None:
        for pid in (os.getpid(), worker_of(opened)):
            self.seen += [proc(pid, "cmdline"), proc(pid, "environ")]
        session = opened._identity
        self.seen += [repr(vars(session)), repr(vars(session._broker)), repr(session._pin), repr(opened)]

    async def refused(self, asked: object) -> None:
        with pytest.raises(TokenError) as refusal:
            await asked  # type: ignore[misc]  # any of a token's operations
        self.seen.append(told(refusal.value))

    def found(self) -> list[bytes]:
        seen = "\n".join(self.seen)
        return [secret for secret in self.secrets if any(form in seen for form in spelled(secret))]


@pytest.mark.property("P2")
@pytest.mark.fault("a PIN or shared secret in a log, an error, the environment or a command line")
async def test_no_secret_is_told_whatever_happens(
    token: SoftToken, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.NOTSET)
    asyncio.get_running_loop().set_debug(True)
    watched, state, wrong = Watched(), tmp_path / "state", token.wrong_pin()
    watched.secrets += [token.pin_text.encode(), token.so_pin_text.encode(), wrong.read().reveal().encode()]

    for _ in range(2):
        await watched.refused(open_token(token.module, token.uri, wrong, ledger=FileLedger(state)))
    opened = await open_token(
        token.module,
        token.uri,
        token.pin,
        ledger=FileLedger(state),
        clock=FakeClock(),
        deadlines={"derive": 2.0},
    )
    watched.look(opened)
    peer = ec.generate_private_key(ec.SECP256R1())
    watched.secrets.append(peer.exchange(ec.ECDH(), public(opened.data)))
    await opened.derive(point_of(peer), "peer")
    await watched.refused(opened.derive(b"\x04" + bytes(64), "peer"))

    # It dies, and then hangs, while it agrees.
    for number in (signal.SIGKILL, None):
        worker = worker_of(opened)
        os.kill(worker, signal.SIGSTOP)
        asked = asyncio.create_task(opened.derive(point_of(peer), "peer"))
        await asyncio.sleep(0.05)
        if number is None:
            await watched.refused(asked)
        else:
            os.kill(worker, number)
            with suppress(TokenError):
                await asked
    await opened.derive(point_of(peer), "peer")
    watched.look(opened)
    await opened.close()

    printed = capfd.readouterr()
    watched.seen += [caplog.text, printed.out, printed.err]
    watched.seen += [path.read_text() for path in state.iterdir()]
    assert watched.found() == []
    # That it would be found.
    watched.seen.append(f"the secret is {watched.secrets[-1].hex()}")
    assert watched.found() == watched.secrets[-1:]
