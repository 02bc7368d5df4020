"""What ``dongled token doctor`` and ``bench`` say of a terminal's token, well or not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from dongled.agent.demo.commands import PROGRAM
from dongled.agent.demo.provision import settings_text
from dongled.agent.doctor.api import Finding, Level, Result
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks import CHECKS as ALL_CHECKS
from dongled.agent.doctor.checks import certificates
from dongled.agent.doctor.checks.token import CHECKS
from dongled.agent.doctor.examination import examine
from dongled.agent.doctor.show import EXIT_STATUS
from dongled.agent.doctor.token import TOKEN_CHECKS, stored
from dongled.agent.doctor.token.case import token_case
from dongled.agent.doctor.token.load import load
from dongled.agent.status import DaemonStatus
from dongled.config.api import load as load_settings
from dongled.tokens import softhsm
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.measure import Timing, measure
from integration.conftest import Company
from support.statuses import well
from tokens.bench import write_pin
from tokens.test_provision import certify

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def text(company: Company, monkeypatch: pytest.MonkeyPatch) -> str:
    """The camera's settings, with its token within reach."""
    cast = company.camera
    for name, value in cast.env.items():
        monkeypatch.setenv(name, value)
    text = settings_text(
        cast, company.authority.root, cast.urn, company.viewer.urn, "ws://127.0.0.1:1", "required"
    )
    return text.replace('pin-file = "pin"', f'pin-file = "{cast.folder / "pin"}"')


async def examined(text: str, directory: Path, *, occupied: bool = False) -> dict[str, Result]:
    path = directory / "dongled.toml"
    path.write_text(text)
    settings = load_settings(path, {}, {})
    case = token_case(settings, MemoryLedger(), occupied=occupied)
    try:
        return {result.id: result async for result in examine(TOKEN_CHECKS, case)}
    finally:
        await case.close()


def unwell(results: dict[str, Result]) -> dict[str, Level]:
    """All but the PIN in a file, which is a warning."""
    assert results["token-pin"].level is Level.WARNING
    return {
        name: result.level
        for name, result in results.items()
        if result.level is not Level.OK and name != "token-pin"
    }


async def test_a_good_token(text: str, tmp_path: Path) -> None:
    results = await examined(text, tmp_path)
    assert unwell(results) == {}
    assert [result.id for result in results.values()] == [check.id for check in TOKEN_CHECKS]
    texts = [finding.text for finding in results["token-certificates"].findings]
    assert all("urn:uuid:" in each and "days" in each for each in texts)
    assert [finding.about for finding in results["token-works"].findings] == ["identity", "data"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("serial=", "serial=f00"), {"token-there": Level.FAILED, "token-tries": Level.FAILED}),
        ((softhsm.find_module(), "/usr/lib/x86_64-linux-gnu/libc.so.6"), {"token-module": Level.FAILED}),
    ],
)
async def test_a_token_that_is_not_there(
    change: tuple[str, str], expected: dict[str, Level], text: str, tmp_path: Path
) -> None:
    results = await examined(text.replace(*change), tmp_path)
    found = unwell(results)
    assert expected.items() <= found.items()
    assert found["token-unlocks"] is Level.FATAL
    for name in ("token-keys", "token-certificates", "token-works"):
        assert found[name] is Level.SKIPPED
    assert all(finding.hint for finding in results["token-unlocks"].findings)


async def test_a_wrong_pin_is_tried_once(company: Company, text: str, tmp_path: Path) -> None:
    wrong = write_pin(tmp_path / "wrong", "not the PIN")
    results = await examined(text.replace(str(company.camera.folder / "pin"), str(wrong)), tmp_path)
    (finding,) = results["token-unlocks"].findings
    assert finding.level is Level.FATAL
    assert "[pin-wrong]" in finding.text
    assert "not the PIN" not in str(results)


async def test_another_key_than_the_pinned_one(company: Company, text: str, tmp_path: Path) -> None:
    pin = str(company.camera.keys["data"]["sha256"])
    results = await examined(text.replace(pin, "0" * 64), tmp_path)
    by_role = {finding.about: finding for finding in results["token-keys"].findings}
    assert by_role["identity"].level is Level.OK
    assert by_role["data"].level is Level.FATAL
    assert "[key-other]" in by_role["data"].text


async def test_a_certificate_that_does_not_let_the_key_agree(
    company: Company, text: str, tmp_path: Path
) -> None:
    for usage, role, reason in (
        ("digital_signature", "data", "[certificate-usage]"),
        ("key_agreement", "identity", "for another key"),
    ):
        point = bytes.fromhex(str(company.camera.keys["data"]["point"]))
        file = tmp_path / "data.pem"
        file.write_bytes(certify(point, usage=usage).public_bytes(Encoding.PEM))
        changed = text.replace(f"[token.{role}]", f'[token.{role}]\ncertificate = "{file}"')
        results = await examined(changed, tmp_path)
        by_role = {finding.about: finding for finding in results["token-certificates"].findings}
        assert by_role[role].level is Level.FAILED
        assert reason in by_role[role].text


async def test_a_token_that_a_daemon_uses_is_left_alone(text: str, tmp_path: Path) -> None:
    found = unwell(await examined(text, tmp_path, occupied=True))
    assert set(found.values()) == {Level.SKIPPED}
    assert set(found) == {"token-unlocks", "token-keys", "token-certificates", "token-works"}


async def test_a_pin_that_systemd_passes_is_judged_where_it_is_kept(
    company: Company, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but the daemon is passed it: whoever examines is not told that it is missing."""
    monkeypatch.setattr(stored.judge, "__defaults__", (tmp_path / "clear", tmp_path / "sealed"))
    own = f'pin-file = "{company.camera.folder / "pin"}"'
    changed = text.replace(own, 'pin-credential = "token-pin"')
    assert (await examined(changed, tmp_path, occupied=True))["token-pin"].level is Level.FAILED
    (tmp_path / "clear").mkdir()
    (tmp_path / "clear/dongled.token-pin").write_text("unread")
    (finding,) = (await examined(changed, tmp_path, occupied=True))["token-pin"].findings
    assert (finding.level, "weak" in finding.text) == (Level.WARNING, True)


async def certificates_of(
    text: str, directory: Path, daemon: DaemonStatus | None = None
) -> dict[str, Finding]:
    path = directory / "dongled.toml"
    path.write_text(text)
    case = TerminalCase(load_settings(path, {}, {}), daemon=daemon)
    return {finding.about: finding for finding in await certificates.CHECK.look(case)}


async def test_certificates_are_judged_without_a_pin(company: Company, text: str, tmp_path: Path) -> None:
    wrong = write_pin(tmp_path / "wrong", "not the PIN")
    text = text.replace(str(company.camera.folder / "pin"), str(wrong))
    found = await certificates_of(text, tmp_path)
    assert {role: finding.level for role, finding in found.items()} == dict.fromkeys(
        ("identity", "data"), Level.OK
    )
    assert all(company.camera.urn in finding.text and "days" in finding.text for finding in found.values())
    other = text.replace(str(company.camera.keys["data"]["sha256"]), "0" * 64)
    found = await certificates_of(other, tmp_path)
    assert found["identity"].level is Level.OK
    assert (found["data"].level, "another key" in found["data"].text) == (Level.FAILED, True)
    missing = text.replace(str(company.camera.keys["identity"]["id"]), "00ff")
    assert (await certificates_of(missing, tmp_path))["identity"].level is Level.FATAL


async def test_certificates_of_a_daemon_that_runs(company: Company, text: str, tmp_path: Path) -> None:
    status = well()
    assert [each.level for each in (await certificates_of(text, tmp_path, status)).values()] == [Level.OK] * 2
    status.certificates[0].not_after = 86_400.0
    status.certificates[1].not_after = -1.0
    found = await certificates_of(text, tmp_path, status)
    assert [each.level for each in found.values()] == [Level.WARNING, Level.FAILED]
    # A file is looked at all the same: the daemon announces whatever is in it.
    point = bytes.fromhex(str(company.camera.keys["data"]["point"]))
    file = tmp_path / "identity.pem"
    file.write_bytes(certify(point, usage="digital_signature").public_bytes(Encoding.PEM))
    changed = text.replace("[token.identity]", f'[token.identity]\ncertificate = "{file}"')
    found = await certificates_of(changed, tmp_path, well())
    assert (found["identity"].level, "another key" in found["identity"].text) == (Level.FAILED, True)


async def test_a_token_that_a_daemon_has_is_asked_after(text: str, tmp_path: Path) -> None:
    path, status = tmp_path / "dongled.toml", well()
    path.write_text(text)
    for state, level in (("READY", Level.OK), ("ABSENT", Level.FAILED)):
        status.token.state, status.token.why = state, "it was pulled"
        case = TerminalCase(load_settings(path, {}, {}), daemon=status)
        results = {result.id: result.level async for result in examine(CHECKS, case)}
        assert results["token-there"] is level
        # How the PIN is kept is seen without the token.
        assert results["token-pin"] is Level.WARNING
        assert results["token-module"] is results["token-tries"] is Level.SKIPPED


async def test_what_the_terminals_examination_takes_of_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dongled.toml"
    path.write_text(text)
    case = TerminalCase(load_settings(path, {}, {}))
    results = {result.id: result.level async for result in examine(CHECKS, case)}
    assert results == {
        "token-module": Level.OK,
        "token-there": Level.OK,
        "token-pin": Level.WARNING,
        "token-tries": Level.OK,
    }
    assert [result.level async for result in examine(CHECKS, TerminalCase(None))] == [Level.SKIPPED] * 4


def test_by_the_command_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dongled.toml"
    path.write_text(text)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "token", *command, "--config", str(path)],
            env=os.environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    done = run("doctor", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == EXIT_STATUS[Level.WARNING], done.stderr
    assert answer["level"] == "warning"
    shown = run("doctor").stdout
    assert "ok       token-works: data: agrees on secrets" in shown
    assert "-> " in shown
    measured = json.loads(run("bench", "--json", "--count", "20", "--cameras", "4").stdout)
    assert measured["sign"]["count"] == measured["derive"]["count"] == 20
    assert 0 < measured["derive"]["p50"] <= measured["derive"]["p95"]
    assert measured["load"]["join"] > 4 * measured["derive"]["p50"]
    assert "a meeting of 10 cameras" in run("bench", "--count", "5").stdout


def test_the_whole_terminal_by_the_command_line(text: str, tmp_path: Path) -> None:
    """Nobody answers at its SFU's address: that is told, and nothing else is wrong."""
    (tmp_path / "dongled.toml").write_text(text)
    done = subprocess.run(
        [PROGRAM, "doctor", "--json", "--config", tmp_path / "dongled.toml"],
        env=os.environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == EXIT_STATUS[Level.FAILED], done.stderr
    results = {check["id"]: check for check in json.loads(done.stdout)["checks"]}
    assert list(results) == [check.id for check in ALL_CHECKS]
    assert [name for name, check in results.items() if check["level"] == "failed"] == ["sfu", "ice"]
    assert not [name for name, check in results.items() if check["level"] == "fatal"]
    for check in results.values():
        for finding in check["findings"]:
            assert finding["hint"] or finding["level"] in ("ok", "skipped")


def test_what_speed_means() -> None:
    slow = Timing(10, 5, 0.2, 0.25)
    means = load(10, slow, slow)
    # An announcement, a beacon and ten keys.
    assert means.join == pytest.approx(2.4)
    assert means.presence == pytest.approx(0.2 / 7 + 0.2 / 240)
    assert means.keys == pytest.approx(10 * 0.2 / 240)


async def test_a_measurement_has_an_end() -> None:
    done: list[None] = []

    async def operation() -> None:
        done.append(None)

    assert (await measure(operation, 60, 7)).count == len(done) == 7
    done.clear()
    assert (await measure(operation, 0, 7)).count == len(done) == 1
