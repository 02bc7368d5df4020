"""A virtual card in the reader of a private pcscd, as tests use it."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.card import exclusive, presence, tlv
from support.card import foreign as other
from support.card.apdu import Card
from support.card.pcscd import READER, ROOT, SOCKET_VARIABLE, Pcscd
from support.card.piv import ATR, PivApplet, certificate_object
from support.card.vpcd import InsertedCard

OPENSC = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
YKCS11 = "/usr/lib/x86_64-linux-gnu/libykcs11.so.2"

IDENTITY, DATA = 0x9A, 0x9D
_CERTIFICATE = {IDENTITY: 0x5FC105, DATA: 0x5FC10B}
_CHUID = 0x5FC102


@dataclass(frozen=True)
class PivCard:
    """A PIV card in its reader, and its throw-away PIN and PUK."""

    daemon: Pcscd
    applet: PivApplet
    inserted: InsertedCard
    pin_text: str
    puk_text: str
    slot: int = 0

    def insert(self) -> None:
        """Put it in once pcscd knows the slot for empty, and wait until it has the card."""
        wait_until("absent", self.daemon, self.slot)
        self.inserted.insert()
        wait_until("present", self.daemon, self.slot)

    def point(self, slot: int) -> bytes:
        return self.applet.keys.get(slot).point


def piv_card(daemon: Pcscd, pin: str, puk: str, *, slot: int = 0, serial: int = 0x00C0FFEE) -> PivCard:
    """A blank PIV card beside the reader; ``slot`` says of which of the reader's two slots."""
    applet = PivApplet(pin, puk, serial=serial)
    inserted = InsertedCard(Card(ATR, applet), daemon.port + slot)
    return PivCard(daemon, applet, inserted, pin, puk, slot)


def provision(card: PivCard) -> None:
    """Give it a terminal's two keys and certificates, as if made elsewhere."""
    name(card)
    for slot in (IDENTITY, DATA):
        card.applet.keys.generate(slot, 0, 0)
        certify(card, slot, key_agreement=slot == DATA)


def name(card: PivCard) -> None:
    """Give it the card holder unique identifier that OpenSC takes its serial number from."""
    card.applet.objects[_CHUID] = chuid(card.applet.serial)


def certify(card: PivCard, slot: int, *, key_agreement: bool) -> x509.Certificate:
    """Store a throw-away authority's certificate of a key; KeyUsage is keyAgreement or digitalSignature."""
    now = datetime.datetime.now(datetime.UTC)
    public = card.applet.keys.get(slot).private.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=camera-1"))
        .issuer_name(x509.Name.from_rfc4514_string("CN=Throw-away"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(
            x509.KeyUsage(
                digital_signature=not key_agreement, key_agreement=key_agreement,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )  # fmt: skip
    der = certificate.public_bytes(serialization.Encoding.DER)
    card.applet.objects[_CERTIFICATE[slot]] = certificate_object(der)
    return certificate


def chuid(serial: int) -> bytes:
    """A card holder unique identifier (SP 800-73-4, part 1, table 9) whose GUID holds the serial number."""
    return (
        tlv.encode(0x30, bytes.fromhex("D4E739DA739CED39CE739D836858210842108421C84210C3EB"))
        + tlv.encode(0x34, serial.to_bytes(16, "big"))
        + tlv.encode(0x35, b"20500101")
        + tlv.encode(0x3E)
        + tlv.encode(0xFE)
    )


def tool(card: PivCard, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program that was not written here on the card's pcscd."""
    return subprocess.run(
        command,
        env={**os.environ, SOCKET_VARIABLE: str(card.daemon.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def held(card: PivCard) -> Iterator[None]:
    """Another program has the card for itself; nobody may have it open yet."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", exclusive.__file__, f"{READER} 00 {card.slot:02}"],
        env={**os.environ, SOCKET_VARIABLE: str(card.daemon.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait(10)


@contextmanager
def foreign(card: PivCard) -> Iterator[None]:
    """In this one's place, which is out of the reader, a card that another program plays."""
    wait_until("absent", card.daemon, card.slot)
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", other.__file__, str(ROOT), str(card.daemon.port + card.slot)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as emulator:
        try:
            wait_until("present", card.daemon, card.slot)
            yield
        finally:
            emulator.kill()


def wait_until(state: str, daemon: Pcscd, slot: int) -> None:
    """Block until a card is in that slot of the reader and answers (``present``), or none is (``absent``)."""
    subprocess.run(
        [sys.executable, "-I", "-S", presence.__file__, f"{READER} 00 {slot:02}", state],
        env={**os.environ, SOCKET_VARIABLE: str(daemon.path)},
        stdin=subprocess.DEVNULL,
        timeout=15,
        check=True,
    )
