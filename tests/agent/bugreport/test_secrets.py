"""Where a credential is looked for: as the units pass it, under the names that they have there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dongled.agent.bugreport import secrets
from dongled.config.api import Settings

ROOT = Path(__file__).parents[3]


def settings() -> Settings:
    token = {"module": "m", "uri": "pkcs11:serial=1", "pin-credential": "token-pin"}
    pin = {"id": "01", "sha256": "0" * 64}
    written = {"token": {**token, "identity": pin, "data": pin}}
    return Settings.model_validate(written, context={"base": Path("/")})


@pytest.mark.parametrize("instance", [None, "second"])
@pytest.mark.parametrize("place", ["PASSED", "STORE", "OPENED"])
def test_a_credential_is_found_wherever_it_lies(
    place: str, instance: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for each in ("PASSED", "STORE", "OPENED"):
        monkeypatch.setattr(secrets, each, tmp_path / each)
    unit = "dongled.service" if instance is None else "dongled@second.service"
    which = "" if instance is None else "second."
    names = {
        "PASSED": f"{unit}/token-pin",
        "STORE": f"dongled.{which}token-pin",
        "OPENED": f"dongled-open.{which}token-pin",
    }
    assert secrets.collect(settings(), instance).unread == ("token.pin-credential",)
    path = tmp_path / place / names[place]
    path.parent.mkdir(parents=True)
    path.write_text("314159")
    found = secrets.collect(settings(), instance)
    assert (found.values, found.unread) == (("314159",), ())


def test_the_unit_takes_it_from_where_it_is_looked_for() -> None:
    assert "LoadCredential=token-pin:dongled-open.token-pin" in (ROOT / "systemd/dongled.service").read_text()
