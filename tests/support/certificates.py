"""Certificates made at test time with the `openssl` command, good for a day and for nothing else."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A self-signed certificate, its own authority: trust `certificate_file` to trust it."""

    certificate_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def make_certificate(folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
    """Make one for `names`, in OpenSSL's notation. Needs the `openssl` command."""
    assert OPENSSL, "no openssl command here"
    made = Certificate(certificate_file=folder / "certificate.pem", key_file=folder / "key.pem")
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=scripted upstream", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(made.key_file), "-out", str(made.certificate_file)),
        ],
        check=True,
        capture_output=True,
    )
    return made
