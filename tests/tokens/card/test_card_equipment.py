"""The virtual PIV card, judged by programs that were not written here."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from support.card.apdu import Card
from support.card.bench import DATA, IDENTITY, OPENSC, YKCS11, PivCard, tool
from support.card.piv import ATR, PivApplet
from tokens.bench import new_pin


def said(card: PivCard, *command: str) -> str:
    done = tool(card, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def public(card: PivCard, slot: int) -> ec.EllipticCurvePublicKey:
    return card.applet.keys.get(slot).private.public_key()


def test_opensc_knows_it_for_a_piv_card(card: PivCard) -> None:
    assert "Personal Identity Verification Card" in said(card, "opensc-tool", "--name")
    dump = said(card, "pkcs15-tool", "--dump")
    assert re.search(r"Private EC Key \[PIV AUTH key\].*?Usage.*?sign.*?FieldLength\s+: 256", dump, re.DOTALL)
    assert re.search(r"Private EC Key \[KEY MAN key\].*?Usage.*?derive", dump, re.DOTALL)
    assert "tries left     : 3" in dump.lower() or "PIN [PIN]" in dump


@pytest.mark.parametrize("module", [OPENSC, YKCS11])
def test_pkcs11_tool_signs(card: PivCard, module: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"a frame").digest()
    (tmp_path / "digest").write_bytes(digest)
    said(
        card, "pkcs11-tool", "--module", module, "--login", "--pin", card.pin_text, "--sign", "--id", "01",
        "--mechanism", "ECDSA", "--input-file", str(tmp_path / "digest"),
        "--output-file", str(tmp_path / "signature"),
    )  # fmt: skip
    raw = (tmp_path / "signature").read_bytes()
    signature = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key = public(card, IDENTITY)
    key.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    with pytest.raises(InvalidSignature):
        key.verify(signature, bytes(32), ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def test_pkcs11_tool_derives(card: PivCard, tmp_path: Path) -> None:
    peer = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "peer").write_bytes(
        peer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    said(
        card, "pkcs11-tool", "--module", OPENSC, "--login", "--pin", card.pin_text, "--derive", "--id", "03",
        "--mechanism", "ECDH1-DERIVE", "--input-file", str(tmp_path / "peer"),
        "--output-file", str(tmp_path / "secret"),
    )  # fmt: skip
    assert (tmp_path / "secret").read_bytes() == peer.exchange(ec.ECDH(), public(card, DATA))


def test_yubico_piv_tool_fills_a_blank_card(blank: PivCard, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    said(blank, "yubico-piv-tool", "-a", "generate", "-s", "9a", "-A", "ECCP256", "-o", str(key))
    assert serialization.load_pem_public_key(key.read_bytes()) == public(blank, IDENTITY)
    attested = said(blank, "yubico-piv-tool", "-a", "attest", "-s", "9a")
    statement = x509.load_pem_x509_certificate(attested.encode())
    assert statement.public_key() == public(blank, IDENTITY)
    held = said(blank, "yubico-piv-tool", "-a", "read-certificate", "-s", "f9").encode()
    maker = x509.load_pem_x509_certificate(held)
    statement.verify_directly_issued_by(maker)
    maker.verify_directly_issued_by(blank.applet.attestation.root)
    certificate.write_bytes(held)
    said(blank, "yubico-piv-tool", "-a", "import-certificate", "-s", "9c", "-i", str(certificate))
    assert said(blank, "yubico-piv-tool", "-a", "read-certificate", "-s", "9c").encode() == held
    said(blank, "yubico-piv-tool", "-a", "set-chuid")
    status = said(blank, "yubico-piv-tool", "-a", "status")
    assert "PIN tries left:\t3" in status
    assert "CHUID:\t3019" in status


def test_a_management_key_of_its_own(blank: PivCard) -> None:
    own = hashlib.sha256(new_pin().encode()).hexdigest()[:48]
    said(blank, "yubico-piv-tool", "-a", "set-mgm-key", "-n", own)
    refused = tool(blank, "yubico-piv-tool", "-a", "generate", "-s", "9a", "-A", "ECCP256")
    assert refused.returncode != 0
    assert "authentication" in refused.stderr
    said(blank, "yubico-piv-tool", f"--key={own}", "-a", "generate", "-s", "9a", "-A", "ECCP256")


def test_the_pin_is_counted_blocked_and_unblocked(card: PivCard) -> None:
    wrong, fresh = new_pin(), new_pin()
    for left in (2, 1, 0):
        assert tool(card, "yubico-piv-tool", "-a", "verify-pin", "-P", wrong).returncode != 0
        assert card.applet.pin.left == left
    right = tool(card, "yubico-piv-tool", "-a", "verify-pin", "-P", card.pin_text)
    assert right.returncode != 0
    assert "blocked" in right.stderr.lower()
    refused = tool(card, "yubico-piv-tool", "-a", "unblock-pin", "-P", wrong, "-N", fresh)
    assert refused.returncode != 0
    assert card.applet.puk.left == 2
    said(card, "yubico-piv-tool", "-a", "unblock-pin", "-P", card.puk_text, "-N", fresh)
    said(card, "yubico-piv-tool", "-a", "verify-pin", "-P", fresh)
    said(card, "yubico-piv-tool", "-a", "change-pin", "-P", fresh, "-N", card.pin_text)
    assert card.applet.pin.left == 3


def test_pulling_it_forgets_who_was_there(card: PivCard) -> None:
    contact = card.inserted.card
    pin = card.pin_text.encode().ljust(8, b"\xff")
    assert contact.transmit(bytes.fromhex("00A4040005A000000308")).endswith(b"\x90\x00")
    assert contact.transmit(bytes.fromhex("0020008008") + pin) == b"\x90\x00"
    assert card.applet.verified
    card.inserted.pull()
    assert not card.applet.verified
    assert contact.transmit(bytes.fromhex("0020008000")) == b"\x6d\x00"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("", "6700"), ("00A404", "6700"), ("00A40400", "6A82"), ("00A4040009A000000308", "6700"),
        ("00A4040005A000000309", "6A82"), ("0020008000", "6D00"), ("00C0000000", "6985"),
        ("00A40400050000000000", "6A82"), ("00A404000000", "6700"),
    ],
)  # fmt: skip
def test_refuses_what_is_no_command(command: str, status: str) -> None:
    contact = Card(ATR, PivApplet(new_pin(), new_pin()))
    assert contact.transmit(bytes.fromhex(command)) == bytes.fromhex(status)
