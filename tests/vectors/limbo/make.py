"""Makes ``cases.json`` from x509-limbo, whose package must be importable: ``python make.py > cases.json``.

Its cases are servers' certificates; here the peer is a client. So serverAuth and clientAuth change places,
but for those cases that are clients' already.
"""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
import sys
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

# What only a server's host name decides.
HOST_NAMES = ("webpki::cn::", "webpki::san::")
# Certificates that are large and nothing else are left out: their size is refused before they are read.
LARGEST = 100_000


def cases(kind: str) -> list[dict[str, Any]]:
    """All cases of this kind of validation, ``SERVER`` ones with the two usages swapped."""
    if kind == "SERVER":
        server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        for place, prefix in ((ExtendedKeyUsageOID, ""), (x509, "OID_")):
            setattr(place, f"{prefix}SERVER_AUTH", client)
            setattr(place, f"{prefix}CLIENT_AUTH", server)
    registry = importlib.import_module("limbo.testcases").registry
    made = (json.loads(make().model_dump_json()) for make in registry.values())
    return [case for case in made if case["validation_kind"] == kind]


def der(pem: str) -> str:
    body = "".join(line for line in pem.splitlines() if not line.startswith("-"))
    return base64.b64encode(base64.b64decode(body)).decode()


def compact(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": case["id"],
        "accept": case["expected_result"] == "SUCCESS",
        "time": case["validation_time"],
        "roots": [der(pem) for pem in case["trusted_certs"]],
        "chain": [der(pem) for pem in (case["peer_certificate"], *case["untrusted_intermediates"])],
        "crls": [der(pem) for pem in case["crls"]],
    }


if __name__ == "__main__":
    if len(sys.argv) == 2:
        ours = (case for case in cases(sys.argv[1]) if not case["id"].startswith(HOST_NAMES))
        json.dump([compact(case) for case in ours], sys.stdout)
    else:
        # One process for each: swapping cannot be undone in what was imported.
        run = [
            subprocess.run([sys.executable, __file__, kind], check=True, capture_output=True).stdout
            for kind in ("CLIENT", "SERVER")
        ]
        lines = [json.dumps(case) for part in run for case in json.loads(part)]
        kept = [line for line in lines if len(line) <= LARGEST]
        sys.stdout.write("[\n" + ",\n".join(kept) + "\n]\n")
