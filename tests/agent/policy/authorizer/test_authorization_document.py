"""docs/authorization.md names every reason, event, key and limit that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from agent.policy.authorizer.questions import question
from dongled.agent.audit import log
from dongled.agent.policy.authorizer import exchange, operator

ROOT = Path(__file__).parents[4]
AGENT = ROOT / "agent/dongled/agent"
PAGE = (ROOT / "docs/authorization.md").read_text()


def test_each_reason_and_no_other() -> None:
    table = PAGE.partition("| reason | what happened |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`((?:operator|authorizer)-[a-z-]+)`", table))
    code = "".join(path.read_text() for path in (AGENT / "policy/authorizer").glob("*.py"))
    raised = set(re.findall(r'"((?:operator|authorizer)-[a-z]+)"', code))
    raised |= {f"authorizer-{word}" for word in re.findall(r'_undecided\(\s*"([a-z-]+)"', code)}
    assert documented == raised - {"authorizer-files"}


def test_each_event() -> None:
    table = PAGE.partition("| event | when |")[2].partition("\n\n")[0]
    firsts = re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)
    documented = {word for first in firsts for word in re.findall(r"`([a-z-]+)`", first)}
    code = "".join(path.read_text() for path in (AGENT / "audit").glob("*.py"))
    code += (AGENT / "daemon.py").read_text()
    recorded = set(re.findall(r'\.record\(\s*"([a-z-]+)"', code)) | {"torn", "cut", "approved", "denied"}
    recorded |= {"granted", "held", "refused", "withdrawn", "stopped"}
    assert documented == recorded


def test_the_question_and_the_limits() -> None:
    asked = set(
        re.findall(r'"([a-z0-9]+)":', PAGE.partition("### The question")[2].partition("```\n\nAll")[0])
    )
    assert asked == set(exchange._body(question(), "id"))
    for text in (
        f"at most {exchange.MAX_ANSWER:,} bytes",
        f"up to {exchange.MAX_REASON} printable",
        f"(1 to {exchange.MAX_SECONDS:,})",
        f"{operator.MOST} requests wait",
        f"after {operator.IDLE:.0f} s",
        f"{log.BUDGET} times a minute",
        f"({log.WAITING:,} records)",
    ):
        assert text in PAGE, text
