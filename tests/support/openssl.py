"""What openssl makes of certificates: an authority that issues by our profile, and its own verdict."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

from support.authority import DAY, NOW

DOCUMENT = Path(__file__).parents[2] / "docs" / "certificates.md"

AUTHORITY = """
[ca]
default_ca = lab
[lab]
new_certs_dir = .
database = index.txt
rand_serial = yes
unique_subject = no
policy = names
default_md = sha256
[names]
commonName = supplied
[req]
distinguished_name = none
prompt = no
[none]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


def documented_templates() -> str:
    """The templates that docs/certificates.md tells others to issue by."""
    _, _, rest = DOCUMENT.read_text().partition("```ini\n")
    return rest.partition("```")[0]


def openssl(directory: Path, *arguments: str) -> str:
    """Run openssl there; returns what it wrote on standard output and error. Fails where openssl does."""
    done = subprocess.run(
        ["openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr}"
    return done.stdout + done.stderr


class OpensslAuthority:
    """A root and what is below it, each a PEM file of its own in ``directory``, valid around NOW."""

    def __init__(self, directory: Path, templates: str = "") -> None:
        self.directory = directory
        (directory / "openssl.cnf").write_text(AUTHORITY + documented_templates() + templates)
        (directory / "index.txt").touch()
        self.issue("root", "root")

    def issue(
        self,
        name: str,
        section: str,
        *how: str,
        issuer: str = "root",
        subject: str = "",
        begin: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        key: str = "",
    ) -> Path:
        """Make a key (or take ``key``'s) and a certificate for it, by the configuration's ``section``."""
        at = self.directory
        if not key:
            openssl(at, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        subject = f"/CN={subject or name}"
        openssl(
            at, "req", "-new", "-config", "openssl.cnf", "-key", f"{key or name}.key", "-subj", subject,
            "-out", f"{name}.csr",
        )  # fmt: skip
        signer = ("-selfsign",) if issuer == name else ("-cert", f"{issuer}.pem")
        validity = ("-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}")
        openssl(
            at, "ca", "-batch", "-notext", "-config", "openssl.cnf", "-extensions", section, *validity,
            "-in", f"{name}.csr", "-out", f"{name}.pem", "-keyfile", f"{issuer}.key", *signer, *how,
        )  # fmt: skip
        return at / f"{name}.pem"
