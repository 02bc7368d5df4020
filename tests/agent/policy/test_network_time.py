"""What chrony says is read strictly, and believed no longer than it should be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dongled.agent import wiring
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.chrony import Measured, measured, unavailable
from dongled.agent.policy.clock import BUILD_TIME, TrustedClock
from dongled.agent.policy.floor import FloorFile
from dongled.agent.policy.network_time import EVERY, EVERY_UNTRUSTED, LASTS, MAX_ANSWER, NetworkTime, ask
from dongled.agent.policy.trust import Trust
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.config.api import Settings
from support.authority import Authority, der

pytestmark = pytest.mark.property("P3")

LATER = BUILD_TIME + timedelta(days=100)

# As chrony prints it.
TRACKING = (
    "C0000201,192.0.2.1,2,1795921045.345064643,-0.250000000,0.000000318,0.000004948,-0.364,0.009,1.620,"
    "0.020000000,0.003000000,64.0,Normal"
)
ONE = "^,*,192.0.2.1,1,6,377,25,0.000000296,0.000000614,0.000002618"
TWO = "^,+,192.0.2.2,1,6,377,26,0.000000296,0.000000614,0.000002618"
KEY_ONE = "192.0.2.1,NTS,1,15,256,7,0,0,8,100"
KEY_TWO = "192.0.2.2,NTS,1,15,256,7,0,0,8,100"
SAID = "\n".join((TRACKING, ONE, TWO, KEY_ONE, KEY_TWO, ""))


def reason(text: str) -> str:
    with pytest.raises(PolicyRefused) as caught:
        measured(text)
    assert caught.value.hint
    return caught.value.reason


def test_an_authenticated_time() -> None:
    assert measured(SAID) == Measured(behind=-0.25, age=25)
    for leap in ("Insert second", "Delete second"):
        assert measured(SAID.replace("Normal", leap))
    # One that is not taken may be anything.
    for state in "?x~-":
        other = f"^,{state},2001:db8::1,1,6,0,4294967295,0.0,0.0,0.0"
        assert measured(f"{SAID}{other}\n2001:db8::1,-,0,0,0,4294967295,0,0,0,0\n")


def lost(said: str) -> str:
    """None of its servers can be reached any longer."""
    return said.replace("^,*", "^,?").replace("^,+", "^,?").replace("377", "0")


def test_a_server_that_was_lost_counts_by_what_it_said_last() -> None:
    assert measured(lost(SAID).replace(",25,", ",3000,")) == Measured(behind=-0.25, age=3000)
    # Another one was, and what this one said nobody knows.
    assert reason(lost(SAID).replace(TRACKING, TRACKING.replace("192.0.2.1", "192.0.2.9"))) == (
        "time-nts-unsynchronised"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Nobody authenticates this one, or a key shared by all does, or it has no key yet, or is not told of.
        (KEY_ONE, KEY_ONE.replace("NTS", "-")),
        (KEY_ONE, KEY_ONE.replace("NTS", "SK")),
        (KEY_ONE, KEY_ONE.replace("256", "0")),
        (f"{KEY_ONE}\n", ""),
        # One of those that are averaged is enough.
        (KEY_TWO, KEY_TWO.replace("NTS", "-")),
        (f"{KEY_TWO}\n", ""),
        # A peer, or a radio clock that borrows the name.
        (ONE, ONE.replace("^", "=")),
        (ONE, ONE.replace("^", "#")),
    ],
)
def test_a_source_that_nts_does_not_authenticate(old: str, new: str) -> None:
    assert reason(SAID.replace(old, new)) == "time-nts-unauthenticated"
    assert reason(lost(SAID.replace(old, new))) == "time-nts-unauthenticated"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Normal", "Not synchronised"),
        (ONE, ONE.replace("*", "x")),
        (ONE, ONE.replace("*", "~")),
        (ONE, ONE.replace("*", "-")),
        (TWO, TWO.replace("+", "*")),
        # Another one than is tracked: its own clock, or what was chosen a moment ago.
        (TRACKING, TRACKING.replace("192.0.2.1", "")),
        (TRACKING, TRACKING.replace("192.0.2.1", "192.0.2.9")),
        (SAID, f"{TRACKING}\n"),
    ],
)
def test_no_server_at_all(old: str, new: str) -> None:
    assert reason(SAID.replace(old, new)) == "time-nts-unsynchronised"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-0.250000000", "600.000000000"),
        ("-0.250000000", "-600.000000000"),
        # Chrony knows how little it knows.
        ("0.003000000", "300.000000000"),
        ("0.020000000", "600.000000000"),
        ("0.003000000", "-9.000000000"),
    ],
)
def test_a_clock_that_is_or_may_be_far_off(old: str, new: str) -> None:
    assert reason(SAID.replace(old, new)) == "time-differs"


@pytest.mark.parametrize("text", ["", "506 Cannot talk to daemon\n", f"{TRACKING}\n501 Not authorised\n"])
def test_chrony_that_cannot_be_asked(text: str) -> None:
    assert reason(text) == "time-nts-unavailable"


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "garbage\n",
        "\n" + SAID,
        SAID + "\n",
        SAID.replace("\n", "\r\n"),
        SAID.replace("\n", "\x0b"),
        SAID + "x\n",
        SAID + KEY_ONE,
        SAID + TWO,
        SAID + TWO.replace("+", "-"),
        SAID.replace("256", "256,0"),
        SAID.replace("377", "999"),
        SAID.replace("0.003000000", "nan"),
        SAID.replace("0.003000000", "1e9"),
        SAID.replace("0.003000000", "9" * 20 + ".0"),
        SAID.replace("Normal", "normal"),
        SAID.replace("192.0.2.1", "192.0.2.1 "),
        SAID.replace("256", "\u0662\u0665\u0666"),
        TRACKING.rpartition(",")[0],
    ],
)
def test_garbage(text: str) -> None:
    assert reason(text) == "time-nts-malformed"


# --- how long it counts --------------------------------------------------------------------------------


class Chrony:
    """Says what it is told to, at ``steady`` seconds."""

    def __init__(self, said: str = SAID) -> None:
        self.said = said
        self.steady = 0.0
        self.wall = LATER
        self.learned: list[bool] = []
        self.clock = TrustedClock("nts", wall=self.now, steady=lambda: self.steady)
        self.time = NetworkTime(self.clock, ask=self.ask, wall=self.now)
        self.time.on_learned(lambda: self.learned.append(self.reason() == ""))

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self.steady)

    async def ask(self) -> str:
        if not self.said:
            raise unavailable("it is away")
        return self.said

    async def later(self, seconds: float, said: str) -> str:
        """Ask again then; why the time is not trusted."""
        self.steady += seconds
        self.said = said
        await self.time.look()
        return self.reason()

    def reason(self) -> str:
        refusal = self.clock.refusal()
        return "" if refusal is None else refusal.reason


async def test_nothing_is_believed_before_chrony_was_asked() -> None:
    chrony = Chrony()
    assert chrony.reason() == "time-untrusted"
    assert await chrony.later(0, "") == "time-nts-unavailable"
    assert await chrony.later(60, SAID) == ""
    assert chrony.clock.now() == chrony.now()
    assert chrony.learned == [True]


PLAIN = SAID.replace("NTS", "-")


@pytest.mark.parametrize(
    ("said", "reason"),
    [("", "time-nts-unavailable"), (PLAIN, "time-nts-unauthenticated"), ("x", "time-nts-malformed")],
)
async def test_a_loss_is_borne_for_an_hour_from_the_last_measurement(said: str, reason: str) -> None:
    chrony = Chrony()
    assert await chrony.later(0, SAID) == ""
    # It was made 25 s ago.
    assert await chrony.later(LASTS - 26, said) == ""
    assert await chrony.later(1, said) == reason
    assert await chrony.later(60, SAID) == ""
    assert chrony.learned == [True, False, True]


async def test_a_measurement_that_is_an_hour_old_says_nothing() -> None:
    assert await Chrony().later(0, SAID.replace(",25,", ",3600,")) == "time-nts-old"
    assert await Chrony().later(0, SAID.replace(",25,", ",3599,")) == ""
    assert await Chrony().later(0, SAID.replace(",25,", ",4294967295,")) == "time-nts-old"


async def test_a_clock_that_authenticated_time_contradicts_is_believed_no_longer() -> None:
    chrony = Chrony()
    assert await chrony.later(0, SAID) == ""
    assert await chrony.later(60, SAID.replace("-0.25", "-400.25")) == "time-differs"
    assert await chrony.later(60, "") == "time-nts-unavailable"


async def test_a_clock_that_somebody_sets_in_between_is_not_either() -> None:
    chrony = Chrony()
    assert await chrony.later(0, SAID) == ""
    for step in (timedelta(days=365), timedelta(days=-1)):
        chrony.wall += step
        assert chrony.reason() == "time-differs"
        chrony.wall -= step
    assert chrony.reason() == ""


async def test_what_chrony_is_about_to_correct_is_no_difference() -> None:
    chrony = Chrony()
    assert await chrony.later(0, SAID.replace("-0.25", "200.0")) == ""
    chrony.wall += timedelta(seconds=400)
    assert chrony.reason() == ""
    chrony.wall += timedelta(seconds=101)
    assert chrony.reason() == "time-differs"


async def test_a_doubt_from_before_does_not_explain_a_word_that_ran_out() -> None:
    chrony = Chrony()
    assert await chrony.later(0, PLAIN) == "time-nts-unauthenticated"
    assert await chrony.later(0, SAID) == ""
    chrony.steady += LASTS
    assert chrony.reason() == "time-untrusted"


async def test_authenticated_time_before_the_build_is_below_the_floor() -> None:
    chrony = Chrony()
    chrony.wall = BUILD_TIME - timedelta(days=1)
    assert await chrony.later(0, SAID) == "time-below-floor"


async def test_it_is_asked_more_often_until_it_vouches_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    chrony, pauses = Chrony(""), list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        chrony.said = SAID if len(pauses) >= 2 else ""
        if len(pauses) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await NetworkTime(chrony.clock, ask=chrony.ask, wall=chrony.now, sleep=sleep).run()
    assert pauses == [EVERY_UNTRUSTED, EVERY_UNTRUSTED, EVERY, EVERY]
    assert caplog.text.count("time-nts-unavailable") == 1
    assert caplog.text.count("chrony vouches") == 1


async def test_whoever_was_refused_is_judged_again_when_chrony_vouches(tmp_path: Path) -> None:
    chrony, learned = Chrony(), asyncio.Event()
    policy = CertificatePolicy([der(Authority.root().certificate)], chrony.clock)
    trust = Trust(policy, chrony.clock, FloorFile(tmp_path), None, network_time=chrony.time)
    trust.on_learned(learned.set)
    running = asyncio.create_task(trust.run())
    async with asyncio.timeout(20):
        await learned.wait()
    running.cancel()
    await asyncio.wait([running])
    assert chrony.reason() == ""


# --- the socket ----------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(path: Path, answer: Callable[[asyncio.StreamWriter], object]) -> AsyncIterator[None]:
    async def answered(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer(writer)

    server = await asyncio.start_unix_server(answered, path)
    try:
        yield
    finally:
        server.close()


async def asked(path: Path) -> str:
    with pytest.raises(PolicyRefused) as caught:
        await ask(path, patience=0.2)
    return caught.value.reason


async def test_nobody_there_or_nobody_who_answers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert await asked(path) == "time-nts-unavailable"
    held: list[asyncio.StreamWriter] = []
    async with answering(path, held.append):
        assert await asked(path) == "time-nts-unavailable"
    held[0].close()
    path.unlink(missing_ok=True)
    path.touch()
    assert await asked(path) == "time-nts-unavailable"


@pytest.mark.parametrize("data", [b"\xff\n", b"x" * (MAX_ANSWER + 1)])
async def test_what_no_text_is_or_has_no_end(tmp_path: Path, data: bytes) -> None:
    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    async with answering(tmp_path / "s", answer):
        assert await asked(tmp_path / "s") == "time-nts-malformed"


async def test_the_setting_has_chrony_asked(tmp_path: Path) -> None:
    root = tmp_path / "root.der"
    root.write_bytes(der(Authority.root().certificate))
    trust = {"time_source": "nts", "revocation": "off", "roots": [root]}
    settings = Settings.model_validate(
        {"terminal": {"name": "door"}, "state": {"directory": tmp_path}, "trust": trust}
    )
    # There is no such socket where tests run.
    clock = await wiring.asked_clock(settings)
    refusal = clock.refusal()
    assert refusal is not None
    assert refusal.reason == "time-nts-unavailable"
    assert "dongled-time.socket" in refusal.hint
    assert wiring.open_trust(settings).network_time is not None
