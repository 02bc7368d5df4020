"""Exercise the FIDO key in the reader with python-fido2's client over pyscard: ``python fido_outside.py``.

A process of its own, since libpcsclite remembers the first pcscd that it met. pyscard has no wheel: it is
Debian's. Reads the key's PIN from standard input (empty: it has none), writes what it found as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

sys.path.append("/usr/lib/python3/dist-packages")

from fido2.client import DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.ctap2.base import Ctap2
from fido2.ctap2.extensions import HmacSecretExtension
from fido2.ctap2.pin import ClientPin
from fido2.pcsc import CtapPcscDevice
from fido2.server import Fido2Server
from fido2.webauthn import (
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    UserVerificationRequirement,
)

RP = "example.com"
SALTS = b"a" * 32, b"b" * 32


class Somebody(UserInteraction):
    def __init__(self, pin: str) -> None:
        self.pin = pin
        self.prompted = 0

    def prompt_up(self) -> None:
        self.prompted += 1

    def request_pin(self, permissions: Any, rp_id: Any) -> str:
        return self.pin


def main() -> None:
    pin = sys.stdin.readline().strip()
    (device,) = CtapPcscDevice.list_devices()
    info = Ctap2(device).info
    if pin:
        ClientPin(Ctap2(device)).set_pin(pin)
    somebody = Somebody(pin)
    collector = DefaultClientDataCollector(f"https://{RP}")
    hmac_secret = HmacSecretExtension(allow_hmac_secret=True)  # type: ignore[no-untyped-call]  # it is not
    client = Fido2Client(device, collector, somebody, [hmac_secret])
    server = Fido2Server(PublicKeyCredentialRpEntity(name="Example", id=RP))
    user = PublicKeyCredentialUserEntity(id=b"operator", name="operator")
    options, state = server.register_begin(user, user_verification=UserVerificationRequirement.DISCOURAGED)
    asked = {**options.public_key, "extensions": {"hmacCreateSecret": True}}
    made = client.make_credential(asked)  # type: ignore[arg-type]  # a mapping will do
    registered = server.register_complete(state, made)
    credential = registered.credential_data
    assert credential is not None

    def assertion(verification: UserVerificationRequirement) -> tuple[str, str, bool]:
        options, state = server.authenticate_begin(
            [credential],
            user_verification=verification,
        )
        salts = {"hmacGetSecret": {"salt1": SALTS[0], "salt2": SALTS[1]}}
        response = client.get_assertion({**options.public_key, "extensions": salts}).get_response(0)  # type: ignore[arg-type]  # a mapping will do
        server.authenticate_complete(state, [credential], response)
        secret = response.client_extension_results["hmacGetSecret"]
        return (
            secret["output1"],
            secret["output2"],
            response.response.authenticator_data.is_user_verified(),
        )

    found = {
        "versions": info.versions,
        "protocols": info.pin_uv_protocols,
        "made": made.client_extension_results.get("hmacCreateSecret"),
        "without": assertion(UserVerificationRequirement.DISCOURAGED),
        "again": assertion(UserVerificationRequirement.DISCOURAGED),
        "with": assertion(UserVerificationRequirement.REQUIRED) if pin else None,
        "retries": ClientPin(Ctap2(device)).get_pin_retries()[0],
        "prompted": somebody.prompted,
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
