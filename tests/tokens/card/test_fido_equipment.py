"""The virtual FIDO key, held to what python-fido2's own client over pyscard takes from a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.card import fido_outside, pcscd
from support.card.fido_authenticator import Authenticator
from support.card.fido_key import inserted, touching
from support.card.pcscd import Pcscd


@pytest.mark.parametrize(("pin", "protocols"), [("", (2, 1)), ("2468", (2, 1)), ("13579", (1,))])
def test_a_client_not_written_here_takes_it_for_a_key(
    daemon: Pcscd, pin: str, protocols: tuple[int, ...]
) -> None:
    authenticator = Authenticator(protocols=protocols)
    with inserted(daemon, authenticator), touching(authenticator):
        ran = subprocess.run(
            [sys.executable, "-I", fido_outside.__file__],
            env={**os.environ, pcscd.SOCKET_VARIABLE: str(daemon.path)},
            input=pin + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["versions"] == ["FIDO_2_0", "FIDO_2_1"]
    assert found["protocols"] == list(protocols)
    assert found["made"] is True
    assert found["without"] == found["again"]
    first, second, verified = found["without"]
    assert len(first) == len(second) == 43  # 32 bytes, base64url
    assert first != second
    assert not verified
    if pin:
        assert found["with"][2]
        assert found["with"][0] not in (first, second)
    assert found["retries"] == 8
    assert found["prompted"] == (4 if pin else 3)
