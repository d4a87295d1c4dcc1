"""The files of a certificate: what is read, what is refused, and when they are read again."""

import hashlib
import logging
import ssl
import subprocess

import pytest
import trustme

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
    said = str(caught.value)
    assert "\n" not in said
    assert CANARY_COMMENT not in said
    return said


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_what_callers_can_read_is_read(folder, pairs):
    """The names, the fingerprint and the times, without a library for certificates."""
    facts = opened(folder).current().facts

    assert ("localhost", "127.0.0.1") == facts.names
    assert pairs[0].sha256 == facts.sha256
    assert facts.not_before_s < facts.not_after_s
    assert f"sha256 {pairs[0].sha256} for localhost, 127.0.0.1" in str(facts)


def test_an_expired_certificate_is_read_all_the_same(folder, authority):
    """It is for the operator to hear of, not a reason to stay away."""
    folder.put(expired(authority))

    assert 1609459200 == opened(folder).current().facts.not_after_s


def test_files_that_are_not_replaced_are_read_once(folder):
    """Every handshake asks."""
    certificates = opened(folder)

    assert certificates.current() is certificates.current()


def test_a_key_of_another_certificate_is_refused(folder, pairs):
    """The line names both files."""
    replace(folder.key, pairs[1].key)

    assert f"{folder.key} is not the key of {folder.certificate}" == problem(folder)


@pytest.mark.skipif(not OPENSSL, reason="no openssl command")
def test_a_key_of_another_kind_is_refused(folder):
    """An RSA key cannot be that of an elliptic curve."""
    made = subprocess.run([OPENSSL, "genrsa", "2048"], check=True, capture_output=True)
    replace(folder.key, made.stdout)

    assert f"{folder.key} is not the key of {folder.certificate}" == problem(folder)


@pytest.mark.parametrize("form", ["-aes256", "-topk8"])
@pytest.mark.skipif(not OPENSSL, reason="no openssl command")
def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(folder, form):
    """In both of the forms that there are; OpenSSL would wait at the terminal."""
    words = ("ec", form) if form == "-aes256" else ("pkcs8", form)
    made = subprocess.run(
        [OPENSSL, *words, "-in", folder.key, "-passout", "pass:secret"], check=True, capture_output=True
    )
    replace(folder.key, made.stdout)

    assert "is encrypted" in problem(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("certificate", None, "cannot read {}: No such file or directory"),
        ("key", None, "cannot read {}: No such file or directory"),
        ("client_ca", None, "cannot read {}: No such file or directory"),
        ("certificate", "", "{} holds no certificate in PEM"),
        ("key", "", "{} holds no private key in PEM"),
        ("client_ca", "", "{} holds no authority in PEM: no certificate or crl found"),
        ("certificate", "x" * (2**20 + 1), "{} is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder, file, content, said):
    """One line, for each of the three."""
    path = getattr(folder, file)
    if content is None:
        path.unlink()
    else:
        replace(path, content.encode())

    assert said.format(path) == problem(folder, mutual=True)


@pytest.mark.parametrize(
    ("file", "word"), [("certificate", "CERTIFICATE"), ("key", "PRIVATE KEY"), ("client_ca", "CERTIFICATE")]
)
def test_what_only_looks_like_pem_is_refused(folder, file, word):
    """A block with nothing of sense in it."""
    path = getattr(folder, file)
    replace(path, GARBAGE.format(word).encode())

    assert str(path) in problem(folder, mutual=True)


def test_a_folder_is_no_file(folder):
    """A mount that went wrong, often."""
    folder.key.unlink()
    folder.key.mkdir()

    assert f"cannot read {folder.key}: Is a directory" == problem(folder)


def test_replaced_files_are_current_at_once(folder, pairs, caplog):
    """With a new context, and a line that says which certificate it is."""
    certificates = opened(folder)
    before = certificates.current()
    folder.put(pairs[1])
    with caplog.at_level(logging.INFO, MODULE):
        after = certificates.current()

    assert (pairs[1].key, pairs[1].chain) == (after.key, after.chain)
    assert pairs[1].sha256 == after.facts.sha256
    assert before.context is not after.context
    assert ["TLS certificate replaced: " + str(after.facts)] == [r.getMessage() for r in caplog.records]


def test_between_two_replacements_the_old_pair_stays(folder, pairs, caplog):
    """A new certificate whose key has not come yet is never used; one warning, however many handshakes."""
    certificates = opened(folder)
    before = certificates.current()
    replace(folder.certificate, pairs[1].chain)
    between = [certificates.current() for _ in range(3)]
    replace(folder.key, pairs[1].key)

    assert [before] * 3 == between
    assert [f"the TLS files before stay in force: {folder.key} is not the key of {folder.certificate}"] == (
        warnings(caplog)
    )
    assert pairs[1].sha256 == certificates.current().facts.sha256


@pytest.mark.parametrize("file", ["certificate", "key", "client_ca"])
def test_a_half_written_file_is_never_used(folder, pairs, authority, file, caplog):
    """Cut at every 50th byte, as a writer without a rename leaves it for a moment."""
    certificates = opened(folder, mutual=True)
    before = certificates.current()
    whole = getattr(folder, file).read_bytes()
    end = whole.rindex(b"-----END")
    seen = set()
    for cut in range(0, end, 50):
        getattr(folder, file).write_bytes(whole[:cut])
        seen.add(certificates.current().facts.sha256 if certificates.current() is before else "another")

    assert {pairs[0].sha256} == seen
    assert CANARY_COMMENT not in "".join(warnings(caplog))


@pytest.mark.parametrize("file", ["certificate", "key", "client_ca"])
def test_a_file_that_goes_changes_nothing(folder, file, caplog):
    """A volume that is mounted anew is empty for a moment; when the files are back no word is lost on it."""
    certificates = opened(folder, mutual=True)
    before = certificates.current()
    path = getattr(folder, file)
    path.rename(path.with_name("away"))
    without = certificates.current()
    path.with_name("away").rename(path)

    assert before is without is certificates.current()
    assert [f"the TLS files before stay in force: cannot read {path}: No such file or directory"] == (
        warnings(caplog)
    )


def test_a_mounted_secret_is_replaced_by_turning_a_link(tmp_path, pairs):
    """As Kubernetes does it: the files are links through `..data`, which is a link itself."""
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

    assert pairs[1].sha256 == certificates.current().facts.sha256


def test_authorities_of_callers_can_be_replaced(folder, pairs):
    """The new set alone is trusted: the context is another."""
    certificates = opened(folder, mutual=True)
    other = trustme.CA()
    folder.put(pairs[0], client_ca=other)
    material = certificates.current()

    assert other.cert_pem.bytes() == material.client_ca
    assert [hashlib.sha256(ssl.PEM_cert_to_DER_cert(other.cert_pem.bytes().decode())).digest()] == [
        hashlib.sha256(der).digest() for der in material.context.get_ca_certs(binary_form=True)
    ]


def test_the_key_is_not_printed(folder):
    """`repr` is what ends in a log by accident."""
    material = opened(folder).current()

    assert CANARY_COMMENT.encode() in material.key
    assert CANARY_COMMENT not in repr(material)
    assert "PRIVATE" not in repr(material)
