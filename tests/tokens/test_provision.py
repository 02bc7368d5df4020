"""From a blank token to a terminal's, and what OpenSC and OpenSSL see of it."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens import describe, provision, softhsm
from dongled.tokens.api import KeyRole
from dongled.tokens.broker import Broker
from dongled.tokens.errors import TokenError
from dongled.tokens.pin import PinFile, PinPrompt
from dongled.tokens.private_key import signing_key
from tokens.bench import SoftToken, answering, new_pin, pkcs11_tool, usage_seen_by_opensc

NAME = x509.Name.from_rfc4514_string("CN=camera 1,O=Example")


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)


def certify(point: bytes, *, usage: str | None = "key_agreement", number: int = 7) -> x509.Certificate:
    issuer = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(x509.Name.from_rfc4514_string("CN=somebody"))
        .public_key(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
        .serial_number(number)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if usage is not None:
        names = (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        )  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(**{name: name == usage for name in names}), True)
    return builder.sign(issuer, hashes.SHA256())


async def test_initialising_twice_changes_nothing(store: Path) -> None:
    module, so_pin, pin = softhsm.find_module(), answering(new_pin()), answering(new_pin())
    made = await provision.initialize(module, "one", so_pin, pin)
    assert made.changed
    key = await provision.generate(module, made.token.uri, pin, KeyRole.IDENTITY)

    def never() -> str:
        raise AssertionError("asked for a PIN")

    again = await provision.initialize(module, "one", PinPrompt(never), PinPrompt(never))
    assert not again.changed
    assert again.token == made.token
    report = await provision.show(module, made.token.uri, pin)
    assert report.keys[KeyRole.IDENTITY] == key


async def test_an_interrupted_initialisation_is_finished(store: Path) -> None:
    module, so_pin, pin = softhsm.find_module(), new_pin(), answering(new_pin())
    broker = Broker(module)
    (blank,) = describe.tokens(await broker.call("tokens"))
    await broker.call("init_token", slot=blank.slot, serial=blank.info.serial, so_pin=so_pin, label="half")
    await broker.close()
    with pytest.raises(TokenError) as refusal:
        await provision.generate(module, "pkcs11:token=half", pin, KeyRole.IDENTITY)
    assert refusal.value.reason == "pin-unset"

    made = await provision.initialize(module, "half", answering(so_pin), pin)
    assert made.changed
    assert (await provision.generate(module, made.token.uri, pin, KeyRole.IDENTITY)).attributes.local


async def test_a_missing_pin_leaves_the_token_as_it_was(token: SoftToken) -> None:
    with pytest.raises(TokenError) as refusal:
        await provision.initialize(
            token.module,
            "new",
            answering(token.so_pin_text),
            PinFile(token.directory / "absent"),
            erase=token.serial,
        )
    assert refusal.value.reason == "pin-file"
    assert (await provision.show(token.module, token.uri, token.pin)).keys


async def test_erases_the_token_that_was_named_and_no_other(token: SoftToken) -> None:
    other = await provision.initialize(token.module, "other", answering("12345678"), answering("1234567"))
    for serial in ("0000", token.serial[:-1], "", "*"):
        with pytest.raises(TokenError) as refusal:
            await provision.initialize(
                token.module, "new", answering(token.so_pin_text), token.pin, erase=serial
            )
        assert refusal.value.reason == "token-absent"
    with pytest.raises(TokenError) as refusal:
        await provision.initialize(
            token.module, "other", answering(token.so_pin_text), token.pin, erase=token.serial
        )
    assert refusal.value.reason == "label-taken"
    with pytest.raises(TokenError) as refusal:
        await provision.initialize(token.module, "new", token.wrong_pin(), token.pin, erase=token.serial)
    assert refusal.value.reason == "pin-wrong"
    assert set((await provision.show(token.module, token.uri, token.pin)).keys) == {
        KeyRole.IDENTITY,
        KeyRole.DATA,
    }

    made = await provision.initialize(
        token.module, "new", answering(token.so_pin_text), token.pin, erase=token.serial
    )
    assert made.changed
    assert made.token.label == "new"
    assert (await provision.show(token.module, made.token.uri, token.pin)).keys == {}
    assert other.token in await provision.list_tokens(token.module)


@pytest.mark.parametrize("label", ["", "x" * 33, "ä" * 17, "a\nb", "a\0b"])
async def test_a_label_has_to_fit_the_token(token: SoftToken, label: str) -> None:
    with pytest.raises(TokenError) as refusal:
        await provision.initialize(token.module, label, token.pin, token.pin)
    assert refusal.value.reason == "label"


async def test_a_label_may_be_any_text(store: Path) -> None:
    module, label = softhsm.find_module(), "Tür 1; 100 %?"
    made = await provision.initialize(module, label, answering(new_pin()), answering("pässword 1"))
    key = await provision.generate(module, made.token.uri, answering("pässword 1"), KeyRole.IDENTITY)
    assert made.token.label == label
    assert key.label == "identity"


async def test_keys_are_not_overwritten(token: SoftToken) -> None:
    before = await provision.show(token.module, token.uri, token.pin)
    with pytest.raises(TokenError) as refusal:
        await provision.generate(token.module, token.uri, token.pin, KeyRole.DATA)
    assert refusal.value.reason == "key-exists"
    assert await provision.show(token.module, token.uri, token.pin) == before


async def test_opensc_sees_the_same_keys(token: SoftToken) -> None:
    report = await provision.show(token.module, token.uri, token.pin)
    listing = pkcs11_tool(token, "--list-objects")
    for role, usage in ((KeyRole.IDENTITY, "sign"), (KeyRole.DATA, "sign, derive")):
        key = report.keys[role]
        seen = usage_seen_by_opensc(listing, role.value, "Private Key Object; EC")
        assert seen["ID"] == key.cka_id.hex()
        # Newer ones tell of signRecover too, which says nothing of an ECDSA key.
        assert seen["Usage"].replace("signRecover, ", "").replace(", signRecover", "") == usage
        assert seen["Access"] == "sensitive, always sensitive, never extractable, local"
        attributes = key.attributes
        assert (attributes.local, attributes.sensitive, attributes.always_sensitive) == (True, True, True)
        assert (attributes.extractable, attributes.never_extractable) == (False, True)
        assert (attributes.sign, attributes.derive) == (True, role is KeyRole.DATA)
        assert key.point.hex() in listing


@pytest.mark.parametrize("role", [KeyRole.IDENTITY, KeyRole.DATA])
async def test_openssl_accepts_the_request(token: SoftToken, role: KeyRole, tmp_path: Path) -> None:
    request = await provision.request_certificate(token.module, token.uri, token.pin, role, NAME)
    path = tmp_path / "request.pem"
    path.write_bytes(request.public_bytes(serialization.Encoding.PEM))
    done = openssl("req", "-in", str(path), "-verify", "-noout", "-text")
    assert "verify OK" in done.stdout + done.stderr
    report = await provision.show(token.module, token.uri, token.pin)
    assert provision.terminal_of(report.keys[KeyRole.IDENTITY]) in done.stdout
    assert ("Key Agreement" in done.stdout) == (role is KeyRole.DATA)


async def test_a_request_names_the_terminal_that_was_given(token: SoftToken) -> None:
    urn = "urn:uuid:6b1c0a7e-3f5e-4c9b-9a55-0d5a1c1f2e3d"
    request = await provision.request_certificate(
        token.module, token.uri, token.pin, KeyRole.DATA, NAME, urn.removeprefix("urn:uuid:").upper()
    )
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [urn]
    with pytest.raises(TokenError) as refusal:
        await provision.request_certificate(token.module, token.uri, token.pin, KeyRole.DATA, NAME, "camera")
    assert refusal.value.reason == "terminal-name"


async def test_a_certificate_is_stored_beside_its_key(token: SoftToken, tmp_path: Path) -> None:
    report = await provision.show(token.module, token.uri, token.pin)
    point = report.keys[KeyRole.DATA].point
    for number in (7, 0xDEADBEEF << 96):
        certificate = certify(point, number=number)
        key = await provision.store_certificate(token.module, token.uri, token.pin, KeyRole.DATA, certificate)
        der = certificate.public_bytes(serialization.Encoding.DER)
        assert key.certificate == der
        out = tmp_path / "seen.der"
        pkcs11_tool(
            token, "--read-object", "--type", "cert", "--id", key.cka_id.hex(), "--output-file", str(out)
        )
        assert out.read_bytes() == der
    assert pkcs11_tool(token, "--list-objects", "--type", "cert").count("Certificate Object") == 1


@pytest.mark.fault("wrong KeyUsage at import")
@pytest.mark.parametrize(
    ("role", "usage", "reason"),
    [
        (KeyRole.DATA, "digital_signature", "certificate-usage"),
        (KeyRole.IDENTITY, "key_agreement", "certificate-usage"),
        (KeyRole.DATA, None, None),
    ],
)
async def test_a_certificate_must_let_the_key_work(
    token: SoftToken, role: KeyRole, usage: str | None, reason: str | None
) -> None:
    point = (await provision.show(token.module, token.uri, token.pin)).keys[role].point
    certificate = certify(point, usage=usage)
    if reason is None:
        assert (
            await provision.store_certificate(token.module, token.uri, token.pin, role, certificate)
        ).certificate
        return
    with pytest.raises(TokenError) as refusal:
        await provision.store_certificate(token.module, token.uri, token.pin, role, certificate)
    assert refusal.value.reason == reason
    assert "Certificate" not in pkcs11_tool(token, "--list-objects", "--type", "cert")


async def test_a_certificate_of_another_key_is_refused(token: SoftToken) -> None:
    point = (await provision.show(token.module, token.uri, token.pin)).keys[KeyRole.IDENTITY].point
    with pytest.raises(TokenError) as refusal:
        await provision.store_certificate(token.module, token.uri, token.pin, KeyRole.DATA, certify(point))
    assert refusal.value.reason == "certificate-other-key"


async def test_somebody_elses_certificate_beside_the_key_counts_for_nothing(
    token: SoftToken, tmp_path: Path
) -> None:
    before = await provision.show(token.module, token.uri, token.pin)
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = stranger.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    path = tmp_path / "stranger.der"
    path.write_bytes(certify(point).public_bytes(serialization.Encoding.DER))
    pkcs11_tool(
        token, "--write-object", str(path), "--type", "cert", "--id", before.keys[KeyRole.DATA].cka_id.hex()
    )
    assert (await provision.show(token.module, token.uri, token.pin)).keys[KeyRole.DATA].certificate is None


def test_an_authority_signs_with_its_key_on_the_token(token: SoftToken, tmp_path: Path) -> None:
    asyncio.run(provision.generate(token.module, token.uri, token.pin, KeyRole.CA))
    leaf = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    basic = x509.BasicConstraints(ca=True, path_length=None)
    with signing_key(token.module, token.uri, token.pin, KeyRole.CA) as key:
        assert not key.info.attributes.derive

        def issue(public: ec.EllipticCurvePublicKey, subject: str, ca: bool) -> x509.Certificate:
            builder = (
                x509.CertificateBuilder()
                .issuer_name(x509.Name.from_rfc4514_string("CN=lab"))
                .subject_name(x509.Name.from_rfc4514_string(subject))
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(minutes=1))
                .not_valid_after(now + datetime.timedelta(days=1))
            )
            if ca:
                builder = builder.add_extension(basic, critical=True)
            return builder.sign(key, hashes.SHA256())

        root, issued = issue(key.public_key(), "CN=lab", True), issue(leaf.public_key(), "CN=leaf", False)
        with pytest.raises(TokenError):
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        with pytest.raises(TokenError):
            key.exchange(ec.ECDH(), leaf.public_key())
    for name, certificate in (("root", root), ("leaf", issued)):
        (tmp_path / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    assert "OK" in openssl("verify", "-CAfile", str(tmp_path / "root"), str(tmp_path / "leaf")).stdout
