"""``dongled enroll`` from a token without certificates to a terminal that is believed, and what may fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from agent.enrolment.site import Site
from dongled.agent.enrolment import client, enroller
from dongled.agent.enrolment.kept import KeptChains
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.tokens import provision, rotation
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import Place
from dongled.tokens.pin import PinFile
from support.authority import DAY, OTHER_TERMINAL, Authority, der, new_key, pem, point
from support.est import HANG, Asked, Platform, Reply


def test_first_boot_then_nothing_then_a_renewal(site: Site, served: Platform) -> None:
    first = site.enroll()
    assert {role: entry["enrolled"] for role, entry in first.items()} == {"identity": True, "data": True}
    assert served.operations == ["terminals/cacerts", "terminals/simpleenroll"] * 2
    for role in ("identity", "data"):
        assert site.on_token(role) == site.issued_der(role)
    policy = CertificatePolicy([(site.folder / "root.pem").read_bytes()], TrustedClock("system"))
    known = policy.check_identity([site.issued_der("identity")])
    assert known.subject == "CN=door"
    assert known.terminal == first["data"]["terminal"]
    key = site.issued("data").public_key()
    assert isinstance(policy.check_data_key(known, [site.issued_der("data")], point(key)), str)

    asked = len(served.asked)
    assert not any(entry["enrolled"] for entry in site.enroll().values())
    assert len(served.asked) == asked

    served.days = 60
    again = site.enroll("--renew")
    assert all(entry["enrolled"] and entry["on_token"] for entry in again.values())
    assert again["identity"]["terminal"] == first["identity"]["terminal"]
    assert again["identity"]["valid_until"] > first["identity"]["valid_until"]
    assert served.operations[-1] == "terminals/simplereenroll"
    assert site.on_token("identity") == site.issued_der("identity")
    text = site.run()
    assert "identity: valid already, urn:uuid:" in text.output


def test_a_data_label_a_subject_and_a_name_of_their_own(site: Site, served: Platform) -> None:
    site.change(
        'label = "terminals"',
        f'label = "a"\ndata-label = "b"\nsubject = "CN=gate,O=Example"\nterminal = "{OTHER_TERMINAL}"',
    )
    done = site.enroll()
    assert {entry["terminal"] for entry in done.values()} == {OTHER_TERMINAL}
    assert {entry["subject"] for entry in done.values()} == {"CN=gate,O=Example"}
    assert served.operations == ["a/cacerts", "a/simpleenroll", "b/cacerts", "b/simpleenroll"]


def test_a_one_time_code_and_a_wrong_one(site: Site, served: Platform, code: str) -> None:
    served.one_time = True
    right = (site.folder / "code").read_text()
    wrong = site.wrong_code()
    result = site.run()
    assert result.exit_code == 1
    assert "[est-credentials]" in result.output
    (site.folder / "code").write_text(right)
    site.enroll()
    served.days = 60
    renewed = site.run("--renew")
    assert "[est-credentials]" in renewed.output
    assert code not in result.output + renewed.output
    assert wrong not in result.output + renewed.output


def test_a_new_code_brings_back_a_terminal_whose_certificates_have_expired(
    site: Site, served: Platform, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lay in a store for too long: what has expired cannot be renewed, and codes are for those without."""
    served.one_time = True
    site.enroll()
    later = datetime.now(UTC) + 31 * DAY
    defaults = TrustedClock.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "wall", lambda: later)
    served.certify = lambda asked: served.issue(asked, now=later)
    again = site.enroll()
    assert all(entry["enrolled"] for entry in again.values())
    assert not any("simplereenroll" in operation for operation in served.operations)


KIND = {"Content-Type": "application/pkcs7-mime"}
Fault = Callable[[Asked], Reply]
FAULTS: list[tuple[Fault, str]] = [
    (lambda asked: Reply(status=401), "est-credentials"),
    (lambda asked: Reply(status=403), "est-forbidden"),
    (lambda asked: Reply(status=500), "est-failing"),
    (lambda asked: Reply(b"*", headers=KIND), "est-garbage"),
    (
        lambda asked: Reply(b"A" * 200_000, headers=KIND),
        "est-too-large",
    ),
    (lambda asked: Reply(status=202, headers={"Retry-After": "600"}), "est-pending"),
    (lambda asked: HANG, "est-unreachable"),
    # It restarts in the middle of its answer.
    (lambda asked: Reply(b"MIID", headers={**KIND, "Content-Length": "900"}), "est-unreachable"),
]


def test_what_fails_leaves_the_old_certificate(
    site: Site, served: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.enroll()
    before = site.issued_der("identity")
    for fault, reason in FAULTS:
        timeout = 0.5 if reason == "est-unreachable" else 20.0
        monkeypatch.setattr(client.EstClient.__init__, "__defaults__", (timeout,))

        def asked_for_too_much(asked: Asked, fault: Fault = fault) -> Reply | None:
            return None if "cacerts" in asked.operation else fault(asked)

        served.fault = asked_for_too_much
        result = site.run("--renew")
        assert result.exit_code == 1
        assert f"[{reason}]" in result.output
        assert site.on_token("identity") == before
    served.fault = lambda asked: None
    assert not any(entry["enrolled"] for entry in site.enroll().values())


TODAY = datetime.now(UTC)
LASTING: dict[str, Any] = {"begin": TODAY - DAY, "end": TODAY + 90 * DAY}


def test_certificates_that_are_not_ours_are_refused(site: Site, served: Platform) -> None:
    site.enroll()
    before = site.issued_der("identity")
    served.days = 60

    def other_terminal(asked: Asked) -> x509.Certificate:
        return Authority(served.key, served.root).leaf(asked.csr, **LASTING)

    def expired(asked: Asked) -> x509.Certificate:
        names = asked.csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        past: dict[str, Any] = {"begin": TODAY - 9 * DAY, "end": TODAY - DAY}
        return Authority(served.key, served.root).leaf(asked.csr, san=list(names), **past)

    for certify, reason in (
        (lambda asked: Authority(served.key, served.root).leaf(new_key(), **LASTING), "est-other-key"),
        (other_terminal, "est-other-terminal"),
        (expired, "expired"),
        (lambda asked: served.issue(asked, days=1), "est-not-newer"),
        (lambda asked: served.issue(asked, now=TODAY - DAY), "est-not-newer"),
    ):
        served.certify = certify
        result = site.run("--renew")
        assert f"[{reason}]" in result.output, result.output
        assert site.on_token("identity") == before


def test_an_authority_that_the_platform_alone_vouches_for(site: Site, served: Platform) -> None:
    stranger = Authority.root("stranger", **LASTING)
    (site.folder / "root.pem").write_bytes(pem(stranger.certificate))
    assert "[chain-untrusted]" in site.run().output
    assert site.on_token("identity") is None


class PowerCut(BaseException):
    """Nothing runs after it."""


def test_a_power_cut_around_what_the_token_is_given(
    site: Site, served: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every other step: test_power_cut.py."""
    site.enroll()
    keep, store = KeptChains.keep, provision.store_certificate

    def cut(*_: object, **__: object) -> object:
        raise PowerCut

    async def cut_later(*_: object, **__: object) -> object:
        raise PowerCut

    def keep_then_cut(self: KeptChains, role: KeyRole, chain: list[bytes]) -> None:
        keep(self, role, chain)
        raise PowerCut

    async def store_then_cut(*rest: Any, **how: Any) -> None:
        await store(*rest, **how)
        raise PowerCut

    steps: list[tuple[object, str, object]] = [
        (enroller, "accept", cut),
        (KeptChains, "keep", keep_then_cut),
        (provision, "store_certificate", cut_later),
        (provision, "store_certificate", store_then_cut),
    ]
    for place, (where, name, instead) in enumerate(steps):
        old = site.on_token("identity")
        served.days += 10
        with monkeypatch.context() as patch:
            patch.setattr(where, name, instead)
            with pytest.raises(PowerCut):
                site.run("--renew")
        new, accepted = site.issued_der("identity"), place >= 1
        assert new != old
        assert site.on_token("identity") == (new if instead is store_then_cut else old)
        # What the next start uses, and then finishes.
        done = site.enroll()
        assert not any(entry["enrolled"] for entry in done.values())
        assert site.on_token("identity") == (new if accepted else old)


@pytest.mark.fault("power cut between writing a new certificate to the token and removing the old one")
def test_a_power_cut_between_writing_the_new_and_removing_the_old_one(site: Site, served: Platform) -> None:
    """The token then holds two; the later one counts, whichever the module lists first."""
    # Certificates tell seconds alone: issued within one, neither is later.
    served.certify = lambda asked: served.issue(asked, now=datetime.now(UTC) - DAY)
    site.enroll()
    old = site.issued("identity")
    served.certify = served.issue
    served.days = 60
    site.enroll("--renew")
    new = site.issued_der("identity")

    async def add_old() -> None:
        key = (await site.show())[KeyRole.IDENTITY]
        pin = PinFile(site.folder / "pin")
        async with provision.session_of(
            site.token.module, site.token.uri, pin, frozenset({KeyRole.IDENTITY}), writable=True
        ) as session:
            await session.call(
                "store_certificate", key=key.cka_id, label=key.label, der=der(old), subject=b"", issuer=b"",
                number=b"\x02\x01\x01", in_place=True,
            )  # fmt: skip

    asyncio.run(add_old())
    assert site.on_token("identity") == new


def test_a_key_that_is_rotated_in_is_the_one_to_be_enrolled(site: Site, served: Platform) -> None:
    """Until the rotation is finished the old key still has the role's label."""
    site.enroll()
    pin = asyncio.run(site.show())[KeyRole.DATA].pin
    place = Place(site.token.module, site.token.uri, PinFile(site.folder / "pin"))
    following = asyncio.run(rotation.begin(place, KeyRole.DATA, pin))
    site.change(pin.cka_id.hex(), following.cka_id.hex())
    site.change(pin.sha256.hex(), following.sha256.hex())
    done = site.enroll()
    assert {role: entry["enrolled"] for role, entry in done.items()} == {"identity": False, "data": True}
    assert done["data"]["on_token"]
    assert point(site.issued("data").public_key()) == following.point


def test_a_token_that_cannot_be_written_is_no_obstacle(
    site: Site, served: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def unable(*_: object, **__: object) -> None:
        raise TokenError("token-unable", "this module cannot put certificates on this token")

    monkeypatch.setattr(provision, "store_certificate", unable)
    done = site.enroll()
    assert [(entry["enrolled"], entry["on_token"]) for entry in done.values()] == [(True, False)] * 2
    assert "token-unable" in caplog.text
    # It is in use all the same.
    assert not any(entry["enrolled"] for entry in site.enroll().values())


def test_waiting_long_enough(site: Site, served: Platform) -> None:
    def hesitate(asked: Asked) -> Reply | None:
        first = [each for each in served.operations if each.endswith("simpleenroll")][1:] == []
        wait = first and asked.operation.endswith("simpleenroll")
        return Reply(status=202, headers={"Retry-After": "0"}) if wait else None

    served.fault = hesitate
    assert all(entry["enrolled"] for entry in site.enroll("--wait", "30").values())
    bodies = [asked.body for asked in served.asked if asked.operation.endswith("simpleenroll")]
    # RFC 7030, 4.2.3: the same request again, then the data key's.
    assert bodies[0] == bodies[1] != bodies[2]


def test_nothing_configured_and_untrusted_time(site: Site) -> None:
    site.change('time-source = "system"', 'time-source = "untrusted"')
    assert "[time-untrusted]" in site.run().output
    # No code is spent on what could not be judged.
    assert site.served.asked == []
    text = (site.folder / "dongled.toml").read_text().partition("[enrolment]")[0]
    (site.folder / "dongled.toml").write_text(text)
    assert "[no-enrolment]" in site.run().output


def test_no_code_and_no_pin_is_logged(
    site: Site, served: Platform, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site.enroll()
    served.fault = lambda asked: Reply(status=500, body=code.encode())
    result = site.run("--renew")
    pin = (site.folder / "pin").read_text().strip()
    assert "est-failing" in result.output
    kept = b"".join(path.read_bytes() for path in (site.folder / "state").rglob("*") if path.is_file())
    for secret in (code, pin):
        assert secret not in caplog.text + result.output
        assert secret.encode() not in kept
