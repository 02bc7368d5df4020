"""The protocol's models, searched by SPIN, and broken one mechanism at a time (docs/models.md).

A proof that passes on nothing would pass here as well, so each invariant has at least one mutation of its
model that spin must find, and it must be this very invariant that breaks.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# What each model bears on (docs/protocol.md, What must hold).
PROPERTIES = {
    "meeting": ("P5", "P6", "P7", "P11"),
    "liveness": ("P6", "P13"),
    "clock": ("P3",),
    "broker": ("P13",),
}

# Model and its macros. Each is searched to the end.
PROOFS = [
    ("meeting", ("TURNS=1", "ASKS=4")),
    ("meeting", ("TURNS=2", "ASKS=3")),
    ("liveness", ()),
    ("liveness", ("DELAY=5",)),
    ("liveness", ("DELAY=1", "LOSS")),
    ("liveness", ("HOSTILE",)),
    ("clock", ()),
    ("clock", ("SYSTEM_CLOCK",)),
    ("broker", ()),
]

# Model, macros that break one mechanism, and the invariant that must not survive it.
MUTATIONS = [
    ("meeting", ("EXPELLED_STAY_HOLDERS",), "no_seal_after_a_switch_under_an_expelled_holders_key"),
    ("meeting", ("NO_ROTATION_FOR_LEAVERS",), "no_seal_after_a_switch_under_an_expelled_holders_key"),
    ("meeting", ("EXPULSION_FORGOTTEN",), "no_seal_after_a_switch_under_an_expelled_holders_key"),
    ("meeting", ("NEWCOMERS_JOIN_THE_GENERATION",), "newcomers_hold_no_earlier_generation"),
    ("meeting", ("A_ROUND_SEALS_ON",), "each_key_and_counter_once"),
    ("meeting", ("KEYS_SURVIVE_A_RESTART",), "each_key_and_counter_once"),
    ("meeting", ("ANY_NONCE",), "keys_installed_only_for_outstanding_nonces"),
    ("meeting", ("OLD_LINKS_SURVIVE_A_ROUND",), "old_links_carry_nothing_after_a_round"),
    ("meeting", ("NEVER_GIVE_A_REQUEST_UP",), "keys_converge_under_fair_delivery"),
    ("liveness", ("LIFE_COUNTS_FROM_ARRIVAL",), "a_stale_peer_is_gone_within_27_s"),
    ("liveness", ("NOBODY_IS_REMOVED",), "a_stale_peer_is_gone_within_27_s"),
    ("liveness", ("NO_ROTATION_FOR_THE_SILENT",), "a_stale_peer_is_gone_within_27_s"),
    ("liveness", ("HOSTILE", "FIRST_SEEN_AGAIN"), "a_stale_peer_is_gone_within_27_s"),
    ("liveness", ("HOSTILE", "MESSAGES_PROVE_LIFE_ANEW"), "a_stale_peer_is_gone_within_27_s"),
    ("liveness", ("DELAY=6",), "a_healthy_peer_stays"),
    ("clock", ("UNTRUSTED_IS_BELIEVED",), "no_grant_while_untrusted"),
    ("clock", ("FLOOR_MAKES_TRUSTED",), "no_grant_while_untrusted"),
    ("clock", ("NO_FLOOR",), "no_grant_below_the_floor"),
    ("clock", ("FLOOR_FORGOTTEN",), "no_grant_below_the_floor"),
    ("clock", ("EVIDENCE_IGNORED",), "no_grant_below_the_floor"),
    ("clock", ("EXPIRY_IGNORED",), "what_has_expired_stays_expired"),
    ("clock", ("TOLD_TIME_IS_FORGOTTEN",), "what_has_expired_stays_expired"),
    ("clock", ("TOLD_TIME_IS_KEPT",), "a_wrong_clock_closes_nothing_for_good"),
    ("clock", ("UNTRUSTED_TIME_RAISES_THE_FLOOR",), "a_wrong_clock_closes_nothing_for_good"),
    ("broker", ("FIRST_COME",), "beacons_never_starve"),
    ("broker", ("NO_QUOTA",), "a_greedy_peer_starves_nobody"),
    ("broker", ("NO_LEDGER",), "one_try_per_wrong_pin"),
    ("broker", ("A_CRASH_IS_NO_VERDICT",), "one_try_per_wrong_pin"),
]

# What is not promised (docs/models.md, What does not hold): spin shows how, and these lines keep us honest.
LIMITS = [
    ("liveness", ("DELAY=0", "LOSS_BOTH_WAYS"), "a_healthy_peer_stays"),
    ("broker", ("CHANGED_ELSEWHERE",), "one_try_per_wrong_pin"),
]


@dataclass(frozen=True)
class Search:
    """What spin's verifier says. ``complete`` means that every reachable state was looked at."""

    states: int
    seconds: float
    complete: bool
    violated: str | None
    output: str


def search(directory: Path, model: str, macros: tuple[str, ...]) -> Search:
    """Make a verifier of a model and run it, in ``directory``."""
    defined = [f"-D{macro}" for macro in macros]
    _run(directory, "spin", *defined, "-a", str(HERE / f"{model}.pml"))
    # NOREDUCE: a partial-order reduction that has little to reduce is not worth trusting.
    _run(directory, "gcc", "-O1", "-w", "-DSAFETY", "-DNOREDUCE", "-DMEMLIM=2048", "-o", "pan", "pan.c")
    begun = time.monotonic()
    output = _run(directory, "./pan", "-m500000")
    seconds = time.monotonic() - begun
    states, errors = re.search(r"^ *(\d+) states, stored", output, re.M), re.search(r"errors: (\d+)", output)
    assert states is not None, output
    assert errors is not None, output
    violated = re.search(r"assertion violated .*\b(\w+)\) \(at depth", output)
    incomplete = ("Search not completed", "max search depth too small", "out of memory", "Bit statespace")
    return Search(
        int(states[1]),
        seconds,
        "Full statespace search" in output and errors[1] == "0" and not any(s in output for s in incomplete),
        violated[1] if violated else None,
        output,
    )


def _run(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _name(value: object) -> str | None:
    return (" ".join(value) or "as it is") if isinstance(value, tuple) else None


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("model", "macros"),
    [pytest.param(*proof, marks=[pytest.mark.property(p) for p in PROPERTIES[proof[0]]]) for proof in PROOFS],
    ids=_name,
)
def test_the_invariants_hold_in_every_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, macros: tuple[str, ...]
) -> None:
    found = search(tmp_path, model, macros)
    with capsys.disabled():
        print(f"\n  {model} {' '.join(macros)}: {found.states:,} states in {found.seconds:.1f} s")  # noqa: T201 - the count is the result
    assert found.violated is None, found.output
    assert found.complete, found.output
    assert found.states > 100


@pytest.mark.parametrize(("model", "macros", "invariant"), MUTATIONS, ids=_name)
def test_a_broken_mechanism_is_found(
    tmp_path: Path, model: str, macros: tuple[str, ...], invariant: str
) -> None:
    assert search(tmp_path, model, macros).violated == invariant


@pytest.mark.parametrize(("model", "macros", "invariant"), LIMITS, ids=_name)
def test_what_is_not_promised_does_not_hold(
    tmp_path: Path, model: str, macros: tuple[str, ...], invariant: str
) -> None:
    assert search(tmp_path, model, macros).violated == invariant


@pytest.mark.parametrize("model", PROPERTIES)
def test_each_invariant_can_break_and_each_macro_is_used(model: str) -> None:
    text = (HERE / f"{model}.pml").read_text()
    named = set(re.findall(r"^hidden byte (\w+);", text, re.M))
    assert named
    assert named == {invariant for of, _, invariant in MUTATIONS if of == model}
    macros = set(re.findall(r"^#ifn?def (\w+)", text, re.M)) | set(re.findall(r"defined\((\w+)\)", text))
    runs = [given for of, given, *_ in [*PROOFS, *MUTATIONS, *LIMITS] if of == model]
    assert macros == {macro.split("=")[0] for given in runs for macro in given}
