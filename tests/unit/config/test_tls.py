"""The TLS files: what is read, what is rejected, and when the files are reloaded."""

import hashlib
import logging
import ssl
import subprocess

import pytest
import trustme

from support.audit import audited
from support.certificates import OPENSSL
from support.tls import CANARY_COMMENT, Folder, expired, replace
from togetherchat_server.config.tls import CertificateError, CertificateFiles, Certificates

pytest_plugins = ["support.tls_fixtures"]

GARBAGE = "-----BEGIN {0}-----\nQUFBQQ==\n-----END {0}-----\n"
MODULE = "togetherchat_server.config.tls"


def opened(folder, *, mutual=False):
    return Certificates(
        CertificateFiles(
            certificate=folder.certificate,
            key=folder.key,
            client_ca=folder.client_ca if mutual else None,
        )
    )


def problem(folder, *, mutual=False):
    with pytest.raises(CertificateError) as caught:
        opened(folder, mutual=mutual)
    message = str(caught.value)
    assert "\n" not in message
    assert CANARY_COMMENT not in message
    return message


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_certificate_is_read(folder, pairs):
    """The names, the fingerprint and the times, without a library that parses certificates."""
    info = opened(folder).current().info

    assert ("localhost", "127.0.0.1") == info.names
    assert pairs[0].sha256 == info.sha256
    assert info.not_before_s < info.not_after_s
    assert f"sha256 {pairs[0].sha256}, for localhost, 127.0.0.1" in str(info)


def test_an_expired_certificate_is_read(folder, authority):
    """The service serves it with a warning."""
    folder.put(expired(authority))

    assert 1609459200 == opened(folder).current().info.not_after_s


def test_unchanged_files_are_read_once(folder):
    """Every handshake gets the same material."""
    certificates = opened(folder)

    assert certificates.current() is certificates.current()


def test_a_key_of_another_certificate_is_rejected(folder, pairs):
    """The error names both files."""
    replace(folder.key, pairs[1].key)

    assert f"{folder.key} is not the key of {folder.certificate}" == problem(folder)


@pytest.mark.skipif(not OPENSSL, reason="no openssl command")
def test_a_key_of_another_type_is_rejected(folder):
    """An RSA key does not match a certificate with an elliptic curve."""
    key = subprocess.run([OPENSSL, "genrsa", "2048"], check=True, capture_output=True)
    replace(folder.key, key.stdout)

    assert f"{folder.key} is not the key of {folder.certificate}" == problem(folder)


@pytest.mark.parametrize("form", ["-aes256", "-topk8"])
@pytest.mark.skipif(not OPENSSL, reason="no openssl command")
def test_an_encrypted_key_is_rejected_without_a_password_prompt(folder, form):
    """In both PEM formats. OpenSSL would wait for a password on the terminal."""
    command = ("ec", form) if form == "-aes256" else ("pkcs8", form)
    key = subprocess.run(
        [OPENSSL, *command, "-in", folder.key, "-passout", "pass:secret"], check=True, capture_output=True
    )
    replace(folder.key, key.stdout)

    assert "is encrypted" in problem(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("certificate", None, "cannot read {}: No such file or directory"),
        ("key", None, "cannot read {}: No such file or directory"),
        ("client_ca", None, "cannot read {}: No such file or directory"),
        ("certificate", "", "{} does not contain a certificate in PEM format"),
        ("key", "", "{} does not contain a private key in PEM format"),
        ("client_ca", "", "{} does not contain a certificate in PEM format: no certificate or crl found"),
        ("certificate", "x" * (2**20 + 1), "{} is larger than 1048576 bytes"),
    ],
)
def test_an_unusable_file_is_named(folder, file, content, message):
    """The error is one line, for each of the three files."""
    path = getattr(folder, file)
    if content is None:
        path.unlink()
    else:
        replace(path, content.encode())

    assert message.format(path) == problem(folder, mutual=True)


@pytest.mark.parametrize(
    ("file", "label"), [("certificate", "CERTIFICATE"), ("key", "PRIVATE KEY"), ("client_ca", "CERTIFICATE")]
)
def test_pem_with_invalid_content_is_rejected(folder, file, label):
    """The block decodes to bytes that are not a certificate or key."""
    path = getattr(folder, file)
    replace(path, GARBAGE.format(label).encode())

    assert str(path) in problem(folder, mutual=True)


def test_a_folder_instead_of_a_file_is_rejected(folder):
    """A wrong mount often causes this."""
    folder.key.unlink()
    folder.key.mkdir()

    assert f"cannot read {folder.key}: Is a directory" == problem(folder)


def test_replaced_files_are_used_at_once(folder, pairs, caplog):
    """With a new context, and a log line that names the certificate."""
    certificates = opened(folder)
    before = certificates.current()
    folder.put(pairs[1])
    with caplog.at_level(logging.INFO, MODULE), audited() as audit:
        after = certificates.current()

    assert (pairs[1].key, pairs[1].chain) == (after.key, after.chain)
    assert pairs[1].sha256 == after.info.sha256
    assert before.context is not after.context
    assert ["TLS certificate replaced: " + str(after.info)] == [
        record.getMessage() for record in caplog.records if record.name == MODULE
    ]
    assert [
        {"event": "file_reloaded", "file": str(path)} for path in (folder.certificate, folder.key)
    ] == audit.events()


def test_a_certificate_without_its_key_is_not_used(folder, pairs, caplog):
    """The previous pair stays in use. There is one warning, however many handshakes."""
    certificates = opened(folder)
    before = certificates.current()
    replace(folder.certificate, pairs[1].chain)
    with audited() as audit:
        between = [certificates.current() for _ in range(3)]
    replace(folder.key, pairs[1].key)

    assert [before] * 3 == between
    assert [
        {
            "event": "file_unreadable",
            "file": str(folder.certificate),
            "problem": f"{folder.key} is not the key of {folder.certificate}",
        }
    ] == audit.events()
    assert [
        f"TLS files cannot be used, the previous ones stay in use: {folder.key} is not the key of {folder.certificate}"
    ] == (warnings(caplog))
    assert pairs[1].sha256 == certificates.current().info.sha256


@pytest.mark.parametrize("file", ["certificate", "key", "client_ca"])
def test_a_partly_written_file_is_never_used(folder, pairs, authority, file, caplog):
    """Cut at every 50th byte, as by a writer that does not rename."""
    certificates = opened(folder, mutual=True)
    before = certificates.current()
    whole = getattr(folder, file).read_bytes()
    end = whole.rindex(b"-----END")
    seen = set()
    for cut in range(0, end, 50):
        getattr(folder, file).write_bytes(whole[:cut])
        seen.add(certificates.current().info.sha256 if certificates.current() is before else "another")

    assert {pairs[0].sha256} == seen
    assert CANARY_COMMENT not in "".join(warnings(caplog))


@pytest.mark.parametrize("file", ["certificate", "key", "client_ca"])
def test_a_missing_file_changes_nothing(folder, file, caplog):
    """A volume is empty for a moment while it is mounted. There is one warning, and none when the file is back."""
    certificates = opened(folder, mutual=True)
    before = certificates.current()
    path = getattr(folder, file)
    path.rename(path.with_name("away"))
    without = certificates.current()
    path.with_name("away").rename(path)

    assert before is without is certificates.current()
    assert [
        f"TLS files cannot be used, the previous ones stay in use: cannot read {path}: No such file or directory"
    ] == (warnings(caplog))


def test_a_changed_symbolic_link_is_followed(tmp_path, pairs):
    """Kubernetes replaces a mounted Secret so: the files link through `..data`, which is a link itself."""
    for name, pair in zip(("first", "second"), pairs, strict=True):
        (tmp_path / name).mkdir()
        Folder(tmp_path / name).put(pair)
    data, folder = tmp_path / "..data", Folder(tmp_path)
    data.symlink_to("first")
    folder.certificate.symlink_to("..data/tls.crt")
    folder.key.symlink_to("..data/tls.key")
    certificates = opened(folder)
    (tmp_path / "..data_tmp").symlink_to("second")
    (tmp_path / "..data_tmp").rename(data)

    assert pairs[1].sha256 == certificates.current().info.sha256


def test_client_authorities_can_be_replaced(folder, pairs):
    """The new context trusts the new set only."""
    certificates = opened(folder, mutual=True)
    other = trustme.CA()
    replace(folder.client_ca, other.cert_pem.bytes())
    with audited() as audit:
        material = certificates.current()

    assert [{"event": "file_reloaded", "file": str(folder.client_ca)}] == audit.events()
    assert other.cert_pem.bytes() == material.client_ca
    assert [hashlib.sha256(ssl.PEM_cert_to_DER_cert(other.cert_pem.bytes().decode())).digest()] == [
        hashlib.sha256(der).digest() for der in material.context.get_ca_certs(binary_form=True)
    ]


def test_the_key_is_not_in_the_repr(folder):
    """A `repr` may be logged by accident."""
    material = opened(folder).current()

    assert CANARY_COMMENT.encode() in material.key
    assert CANARY_COMMENT not in repr(material)
    assert "PRIVATE" not in repr(material)
