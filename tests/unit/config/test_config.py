"""The configuration: flags, environment, file, and the checks at the start."""

import ipaddress
from pathlib import Path

import pytest
import trustme

from support.tls import Folder, Pair
from togetherchat_server.config import (
    Settings,
    SettingsError,
    exposure_warnings,
    is_together,
    read_configuration,
)
from togetherchat_server.domain.secret import Secret

KEY = {"TOGETHER_API_KEY": "tgp_v1_canary"}


def read(*arguments, **environment):
    return read_configuration(arguments, environment)


def problem(*arguments, **environment):
    with pytest.raises(SettingsError) as caught:
        read(*arguments, **environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_win_over_the_environment_and_the_environment_over_the_file(tmp_path):
    """Each source overrides the ones after it."""
    file = tmp_path / "settings.toml"
    file.write_text('max-concurrent-calls = 1\ncall_timeout_s = 1\nlog_format = "json"\n')

    settings = read(
        "--config",
        str(file),
        "--max-concurrent-calls",
        "3",
        TOGETHERCHAT_MAX_CONCURRENT_CALLS="2",
        TOGETHERCHAT_CALL_TIMEOUT_S="2",
        **KEY,
    ).settings

    assert (settings.max_concurrent_calls, settings.call_timeout_s, settings.log_format) == (3, 2.0, "json")


def test_every_setting_is_a_flag_a_variable_and_a_key_of_the_file(tmp_path):
    """Every default, set explicitly in any of the three, changes nothing."""
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = "off" if field.default in (None, ()) else field.default
        arguments = (
            [flag if default else f"--no-{flag[2:]}"] if isinstance(default, bool) else [flag, str(default)]
        )
        file = tmp_path / f"{name}.toml"
        file.write_text(f"{name} = {str(default).lower() if isinstance(default, bool) else repr(default)}\n")

        by_flag = read(*arguments, **KEY).settings
        by_variable = read(**{f"TOGETHERCHAT_{name.upper()}": str(default)}, **KEY).settings
        by_file = read("--config", str(file), **KEY).settings

        assert [Settings()] * 3 == [by_flag, by_variable, by_file], name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grpc-listen", "50051"], "--grpc-listen"),
        (["--grpc-listen", "localhost:99999"], "--grpc-listen"),
        (["--call-timeout-s", "0"], "--call-timeout-s"),
        (["--call-timeout-s", "inf"], "--call-timeout-s"),
        (["--max-concurrent-calls", "many"], "--max-concurrent-calls"),
        (["--upstream-credentials", "mine"], "--upstream-credentials"),
        (["--log-format", "xml"], "--log-format"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_an_invalid_setting_is_named_in_one_line(arguments, message):
    """The error names the flag or the file."""
    assert message in problem(*arguments, **KEY)


def test_an_unknown_key_of_the_file_is_named(tmp_path):
    """A misspelt setting is not ignored."""
    file = tmp_path / "settings.toml"
    file.write_text("calls_maximum = 3\n")

    assert "calls_maximum" in problem("--config", str(file), **KEY)


def test_a_file_that_is_not_toml_is_rejected(tmp_path):
    """The error says so."""
    file = tmp_path / "settings.toml"
    file.write_text("max_concurrent_calls: 3\n")

    assert "not TOML" in problem("--config", str(file), **KEY)


def test_without_a_key_or_sandbox_the_start_is_rejected():
    """The error names the three ways to start. The sandbox is never chosen silently."""
    message = problem()

    for way in ("TOGETHER_API_KEY", "--upstream-credentials caller", "--sandbox"):
        assert way in message


def test_the_sandbox_needs_no_key():
    """`--sandbox` is enough to start."""
    assert read("--sandbox").provider is None


def test_a_key_is_stripped_and_never_shown():
    """A trailing newline is removed, and the configuration's `repr` does not contain the key."""
    configuration = read(TOGETHER_API_KEY=" tgp_v1_canary\n")

    assert configuration.provider is not None
    assert Secret("tgp_v1_canary") == configuration.provider.current_key()
    assert "canary" not in repr(configuration)


def test_an_invalid_key_is_rejected_without_repeating_it():
    """The error names the variable, and contains nothing of the key."""
    message = problem(TOGETHER_API_KEY="can ary\x01")

    assert "TOGETHER_API_KEY" in message
    assert "ary" not in message.replace("TOGETHER_API_KEY", "")


def test_a_key_can_be_read_from_a_file(tmp_path):
    """As for a mounted secret."""
    file = tmp_path / "key"
    file.write_text("from-file\n")

    provider = read(TOGETHER_API_KEY_FILE=str(file)).provider

    assert provider is not None
    assert Secret("from-file") == provider.current_key()


def test_a_missing_key_file_is_named(tmp_path):
    """The error contains the path."""
    assert str(tmp_path / "none") in problem(TOGETHER_API_KEY_FILE=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("", "https://api.together.ai/v1"),
        ("https://api.together.xyz", "https://api.together.xyz/v1"),
        ("https://api.together.xyz/", "https://api.together.xyz/v1"),
        ("http://127.0.0.1:8000/openai/v1/", "http://127.0.0.1:8000/openai/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_v1_is_appended_only_to_a_base_url_without_a_path(given, used):
    """Any other OpenAI-compatible base URL is used as it is."""
    provider = read(TOGETHER_BASE_URL=given, **KEY).provider

    assert provider is not None
    assert used == provider.base_url


@pytest.mark.parametrize(
    "given",
    [
        "api.together.ai",
        "ftp://host",
        "http://",
        "http://u:p@host",
        "http://host/v1?x=1",
        "http://host:0",
        "http://[::1",
    ],
)
def test_an_invalid_base_url_is_rejected(given):
    """The error names the variable."""
    assert "TOGETHER_BASE_URL" in problem(TOGETHER_BASE_URL=given, **KEY)


def test_another_provider_needs_no_key():
    """A key is required only for Together's own hosts."""
    provider = read(TOGETHER_BASE_URL="http://127.0.0.1:8000/v1").provider

    assert provider is not None
    assert provider.current_key() is None


def test_the_callers_keys_may_be_the_only_ones():
    """With `--upstream-credentials caller` the service needs no key of its own."""
    provider = read("--upstream-credentials", "caller").provider

    assert provider is not None
    assert provider.current_key() is None


@pytest.mark.parametrize("url", ["https://api.together.ai/v1", "https://TOGETHER.xyz/v1"])
def test_together_is_recognised_by_its_domains(url):
    """Subdomains count, in upper or lower case."""
    assert is_together(url)


@pytest.mark.parametrize("url", ["https://nottogether.ai/v1", "https://together.ai.example/v1"])
def test_a_similar_domain_is_not_together(url):
    """A host that only begins or ends like the domain does not match."""
    assert not is_together(url)


def test_exposing_the_own_key_to_a_network_is_rejected():
    """A listener that other machines reach needs a protection or explicit consent."""
    message = problem("--grpc-listen", "0.0.0.0:50051", **KEY)

    assert "--allow-unauthenticated" in message


def test_an_exposed_http_listener_is_rejected_too():
    """Its callers could use the key as well."""
    message = problem("--http-listen", "0.0.0.0:3000", **KEY)

    assert message.startswith("--http-listen 0.0.0.0:3000 would let anyone")
    assert (
        "0.0.0.0:3000"
        == read("--http-listen", "0.0.0.0:3000", "--allow-unauthenticated", **KEY).settings.http_listen
    )
    assert "0.0.0.0:3000" == read("--http-listen", "0.0.0.0:3000", "--sandbox").settings.http_listen


@pytest.mark.parametrize(
    "arguments",
    [
        ["--grpc-listen", "0.0.0.0:50051", "--allow-unauthenticated"],
        ["--grpc-listen", "0.0.0.0:50051", "--upstream-credentials", "caller"],
        [
            "--grpc-listen",
            "0.0.0.0:50051",
            "--tls-cert-file",
            "CERT",
            "--tls-key-file",
            "KEY",
            "--tls-client-ca-file",
            "CA",
        ],
        ["--grpc-listen", "0.0.0.0:50051", "--api-keys-file", "/some/file"],
        ["--grpc-listen", "localhost:50051"],
        ["--grpc-listen", "[::1]:50051"],
    ],
)
def test_an_exposed_listener_is_allowed_with_a_protection(arguments, tls_files):
    """On loopback, with callers' keys, with client certificates, or with explicit consent."""
    assert arguments[1] == read(*with_files(arguments, tls_files), **KEY).settings.grpc_listen


def test_tls_without_client_certificates_is_not_a_protection(tls_files):
    """The error names every protection."""
    arguments = ["--grpc-listen", "0.0.0.0:50051", "--tls-cert-file", "CERT", "--tls-key-file", "KEY"]
    message = problem(*with_files(arguments, tls_files), **KEY)

    assert (
        "--grpc-listen 0.0.0.0:50051 would let anyone use this service's key: listen on "
        "127.0.0.1, give callers keys (--api-keys-file FILE), accept JWTs (--jwt-issuer ISSUER), "
        "use the callers' own keys (--upstream-credentials caller), "
        "require client certificates (--tls-client-ca-file FILE), or set --allow-unauthenticated"
    ) == message


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory):
    authority = trustme.CA()
    folder = Folder(tmp_path_factory.mktemp("tls")).put(Pair(authority), client_ca=authority)
    folder.key.chmod(0o600)
    return {"CERT": str(folder.certificate), "KEY": str(folder.key), "CA": str(folder.client_ca)}


def with_files(arguments, files):
    return [files.get(argument, argument) for argument in arguments]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tls-cert-file", "CERT"], "--tls-cert-file needs its private key: set --tls-key-file FILE"),
        (["--tls-key-file", "KEY"], "--tls-key-file needs a certificate: set --tls-cert-file FILE"),
        (
            ["--tls-client-ca-file", "CA"],
            "--tls-client-ca-file needs a certificate: set --tls-cert-file FILE",
        ),
        (
            ["--tls-cert-file", "/nowhere.pem", "--tls-key-file", "KEY"],
            "TLS: cannot read /nowhere.pem: No such file or directory",
        ),
        (
            ["--tls-cert-file", "CERT", "--tls-key-file", "CERT"],
            "TLS: CERT does not contain a private key in PEM format",
        ),
    ],
)
def test_incomplete_tls_settings_are_rejected(arguments, message, tls_files):
    """The error names the missing flag or the unusable file."""
    for name, path in tls_files.items():
        message = message.replace(f" {name} ", f" {path} ")

    assert message == problem(*with_files(arguments, tls_files), "--sandbox")


def test_certificates_are_loaded_when_they_are_set(tls_files):
    """Otherwise the service uses plaintext."""
    arguments = with_files(["--tls-cert-file", "CERT", "--tls-key-file", "KEY"], tls_files)
    certificates = read(*arguments, "--sandbox").certificates

    assert certificates is not None
    assert not certificates.requires_client_certificates
    assert read("--sandbox").certificates is None


CALLERS_KEYS = ["--upstream-credentials", "caller"]
TLS = ["--tls-cert-file", "CERT", "--tls-key-file", "KEY"]


@pytest.mark.parametrize(
    ("arguments", "listener"),
    [
        ([*CALLERS_KEYS, "--grpc-listen", "0.0.0.0:50051"], "--grpc-listen 0.0.0.0:50051"),
        ([*CALLERS_KEYS, "--http-listen", "0.0.0.0:3000"], "--http-listen 0.0.0.0:3000"),
        (["--api-keys-file", "/some/file", "--grpc-listen", "0.0.0.0:50051"], "--grpc-listen 0.0.0.0:50051"),
        (["--api-keys-file", "/some/file", "--grpc-listen", "0.0.0.0:50051", *TLS], None),
        ([*CALLERS_KEYS, "--grpc-listen", "0.0.0.0:50051", *TLS], None),
        ([*CALLERS_KEYS], None),
        (["--grpc-listen", "0.0.0.0:50051", "--allow-unauthenticated"], None),
    ],
)
def test_callers_keys_in_plaintext_cause_a_warning(arguments, listener, tls_files):
    """Only on a listener that other machines reach. Behind a mesh or proxy that encrypts, plaintext is correct, so it is not an error."""
    configuration = read(*with_files(arguments, tls_files), **KEY)
    warnings = exposure_warnings(configuration.settings, configuration.provider)

    assert ([f"{listener} receives callers' keys in plaintext"] if listener else []) == [
        warning.partition(": set")[0] for warning in warnings
    ]


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (["--http-listen", "127.0.0.1:3000", "--http-allowed-origins", "*"], True),
        (["--http-listen", "127.0.0.1:3000", "--http-allowed-origins", "app://obsidian.md"], False),
        (["--http-listen", "127.0.0.1:3000", "--http-allowed-origins", "*", *CALLERS_KEYS], False),
        (["--http-listen", "127.0.0.1:3000", "--http-allowed-origins", "*", "--api-keys-file", "/some/file"], False),
        (["--http-allowed-origins", "*"], False),
    ],
)  # fmt: skip
def test_a_key_that_every_web_page_can_use_causes_a_warning(arguments, warned):
    """The listener may be on the loopback: a page in the developer's own browser can connect to it."""
    configuration = read(*arguments, **KEY)
    warnings = exposure_warnings(configuration.settings, configuration.provider)

    assert warned == any(warning.startswith("--http-allowed-origins *: ") for warning in warnings)


@pytest.mark.parametrize(
    "origins",
    ["chat.example.com", "https://chat.example.com/", "null", "https://a,b", "https://*.example.com"],
)
def test_an_origin_must_be_exact(origins):
    """A path, a name without a scheme or a pattern would never be equal to what a browser sends."""
    with pytest.raises(SettingsError, match="--http-allowed-origins"):
        read("--http-allowed-origins", origins, **KEY)


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_secret_that_every_user_can_read_causes_a_warning(mode, warned, tmp_path, tls_files):
    """The files with the callers' keys, the provider's key and the certificate's key. A group may read them."""
    callers, provider, tls = (tmp_path / name for name in ("callers", "provider", "tls"))
    for path, text in ((callers, ""), (provider, "key"), (tls, Path(tls_files["KEY"]).read_text())):
        path.write_text(text)
        path.chmod(mode)
    arguments = (
        "--api-keys-file",
        str(callers),
        "--tls-cert-file",
        tls_files["CERT"],
        "--tls-key-file",
        str(tls),
    )
    configuration = read(*arguments, TOGETHER_API_KEY_FILE=str(provider))

    assert (
        [
            f"{path}: every user of this machine can read the file: chmod o-r {path}"
            for path in (callers, tls, provider)
        ]
        if warned
        else []
    ) == list(exposure_warnings(configuration.settings, configuration.provider))


NETWORKS = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32")]


def test_trusted_proxies_are_addresses_and_networks(tmp_path):
    """A flag and a variable have commas, the file a list; host bits are ignored."""
    file = tmp_path / "settings.toml"
    file.write_text('trusted_proxies = ["10.1.2.3/8", "2001:db8::/32", "192.0.2.1"]\n')
    text = "10.0.0.0/8, 2001:db8::/32,192.0.2.1"
    configurations = (
        read("--trusted-proxies", text, **KEY),
        read(TOGETHERCHAT_TRUSTED_PROXIES=text, **KEY),
        read("--config", str(file), **KEY),
    )

    assert [NETWORKS] * 3 == [list(each.settings.trusted_proxies) for each in configurations]


@pytest.mark.parametrize("text", ["example.com", "10.0.0.0/33", "10.0.0.0/8;", "10.0.0.0/8,,"])
def test_what_is_no_network_is_rejected(text):
    """The error names the setting and the form."""
    with pytest.raises(SettingsError, match=r"--trusted-proxies.*must be addresses or networks"):
        read("--trusted-proxies", text, **KEY)


def test_aliases_can_be_set_in_three_ways(tmp_path):
    """Repeated flags, a variable with commas, or a table of the file. Only the strongest source counts."""
    file = tmp_path / "settings.toml"
    file.write_text('[alias]\nfast = "a/b"\n"old/id" = "new/id"\n')
    both = {"fast": "a/b", "old/id": "new/id"}

    by_flag = read("--alias", "fast=a/b", "--alias", "old/id=new/id", **KEY)
    by_variable = read(TOGETHERCHAT_ALIAS="fast=a/b, old/id=new/id", **KEY)
    by_file = read("--config", str(file), **KEY)
    over_the_file = read("--config", str(file), "--alias", "slow=c/d", **KEY)

    assert [both] * 3 == [read.settings.alias for read in (by_flag, by_variable, by_file)]
    assert {"slow": "c/d"} == over_the_file.settings.alias


@pytest.mark.parametrize("alias", ["fast", "fast=", "=a/b", "fast=a b", "fast=a=b", "f" * 257 + "=a/b"])
def test_an_alias_is_a_name_and_a_model(alias):
    """Neither is empty, has a space, or is longer than 256 characters."""
    assert "--alias (TOGETHERCHAT_ALIAS): must be NAME=MODEL" in problem("--alias", alias, **KEY)


def test_an_alias_in_the_file_must_be_text(tmp_path):
    """A number is rejected."""
    file = tmp_path / "settings.toml"
    file.write_text("[alias]\nfast = 5\n")

    assert "--alias" in problem("--config", str(file), **KEY)


def test_the_console_needs_the_http_listener():
    """The console is a page of that listener."""
    assert "--http-listen" in problem("--console", "--sandbox")
    assert read("--console", "--http-listen", "127.0.0.1:3000", "--sandbox").settings.console


@pytest.mark.parametrize(
    ("log_format", "terminal", "expected"),
    [
        ("auto", True, "text"),
        ("auto", False, "json"),
        ("text", False, "text"),
        ("json", True, "json"),
    ],
)
def test_the_log_is_text_only_for_people(log_format, terminal, expected):
    """By default: text on a terminal, JSON in a file or a pipe."""
    assert expected == Settings(log_format=log_format).log_format_on(terminal=terminal)
