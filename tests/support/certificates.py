"""Self-signed certificates, created for a test with the `openssl` command and valid for a day."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A self-signed certificate. A client trusts it by trusting `certificate_file`."""

    certificate_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def make_certificate(folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
    """Create a certificate for `names`, in OpenSSL's notation. Needs the `openssl` command."""
    assert OPENSSL, "the openssl command is not installed"
    certificate = Certificate(certificate_file=folder / "certificate.pem", key_file=folder / "key.pem")
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=scripted upstream", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(certificate.key_file), "-out", str(certificate.certificate_file)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate
