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


def read(*words, **environment):
    return read_configuration(words, environment)


def problem(*words, **environment):
    with pytest.raises(SettingsError) as caught:
        read(*words, **environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_win_over_the_environment_and_the_environment_over_the_file(tmp_path):
    """The nearer to the command line, the stronger."""
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
    """Each default can be said in all three places and changes nothing."""
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = "off" if field.default is None else field.default
        words = (
            [flag if default else f"--no-{flag[2:]}"] if isinstance(default, bool) else [flag, str(default)]
        )
        file = tmp_path / f"{name}.toml"
        file.write_text(f"{name} = {str(default).lower() if isinstance(default, bool) else repr(default)}\n")

        by_flag = read(*words, **KEY).settings
        by_variable = read(**{f"TOGETHERCHAT_{name.upper()}": str(default)}, **KEY).settings
        by_file = read("--config", str(file), **KEY).settings

        assert [Settings()] * 3 == [by_flag, by_variable, by_file], name


@pytest.mark.parametrize(
    ("words", "said"),
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
def test_a_wrong_setting_is_named_in_one_line(words, said):
    """The start stops with the name of what is wrong."""
    assert said in problem(*words, **KEY)


def test_an_unknown_key_of_the_file_is_named(tmp_path):
    """A misspelt setting is no setting that is quietly ignored."""
    file = tmp_path / "settings.toml"
    file.write_text("calls_maximum = 3\n")

    assert "calls_maximum" in problem("--config", str(file), **KEY)


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    """A broken file is said to be one."""
    file = tmp_path / "settings.toml"
    file.write_text("max_concurrent_calls: 3\n")

    assert "not TOML" in problem("--config", str(file), **KEY)


def test_without_key_and_sandbox_the_start_is_refused_with_what_to_do():
    """Nobody gets simulated answers without asking for them by name."""
    said = problem()

    assert [
        way for way in ("TOGETHER_API_KEY", "--upstream-credentials caller", "--sandbox") if way not in said
    ] == []


def test_the_sandbox_needs_no_key():
    """`--sandbox` alone serves."""
    assert read("--sandbox").upstream is None


def test_a_key_is_stripped_and_never_shown():
    """A newline behind the key does no harm, and the configuration does not print the key."""
    configuration = read(TOGETHER_API_KEY=" tgp_v1_canary\n")

    assert configuration.upstream is not None
    assert Secret("tgp_v1_canary") == configuration.upstream.current_key()
    assert "canary" not in repr(configuration)


def test_an_unusable_key_is_refused_without_repeating_it():
    """What is wrong with the key is said, the key is not."""
    said = problem(TOGETHER_API_KEY="can ary\x01")

    assert "TOGETHER_API_KEY" in said
    assert "ary" not in said.replace("TOGETHER_API_KEY", "")


def test_a_key_may_lie_in_a_file(tmp_path):
    """Mounted secrets work."""
    file = tmp_path / "key"
    file.write_text("from-file\n")

    upstream = read(TOGETHER_API_KEY_FILE=str(file)).upstream

    assert upstream is not None
    assert Secret("from-file") == upstream.current_key()


def test_a_missing_key_file_is_named(tmp_path):
    """The start says which file it could not read."""
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
def test_the_base_url_gets_v1_only_when_its_path_is_empty(given, used):
    """Any OpenAI-compatible address works as it is written."""
    upstream = read(TOGETHER_BASE_URL=given, **KEY).upstream

    assert upstream is not None
    assert used == upstream.base_url


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
def test_a_base_url_that_is_none_is_refused(given):
    """What cannot be an address stops the start."""
    assert "TOGETHER_BASE_URL" in problem(TOGETHER_BASE_URL=given, **KEY)


def test_a_local_engine_needs_no_key():
    """The key is demanded towards Together's own hosts alone."""
    upstream = read(TOGETHER_BASE_URL="http://127.0.0.1:8000/v1").upstream

    assert upstream is not None
    assert upstream.current_key() is None


def test_callers_may_bring_the_only_key():
    """With `--upstream-credentials caller` the service needs none of its own."""
    upstream = read("--upstream-credentials", "caller").upstream

    assert upstream is not None
    assert upstream.current_key() is None


@pytest.mark.parametrize("url", ["https://api.together.ai/v1", "https://TOGETHER.xyz/v1"])
def test_together_is_known_by_its_domains(url):
    """A subdomain is Together's, whatever the case."""
    assert is_together(url)


@pytest.mark.parametrize("url", ["https://nottogether.ai/v1", "https://together.ai.example/v1"])
def test_a_lookalike_is_not_together(url):
    """A name that only ends or begins alike is somebody else's."""
    assert not is_together(url)


def test_giving_the_own_key_to_a_network_is_refused():
    """An open address with a paying key behind it needs a word of consent."""
    said = problem("--grpc-listen", "0.0.0.0:50051", **KEY)

    assert "--allow-unauthenticated" in said


def test_the_http_door_is_an_open_address_too():
    """The key can be spent through either."""
    said = problem("--http-listen", "0.0.0.0:3000", **KEY)

    assert said.startswith("--http-listen 0.0.0.0:3000 would let anyone")
    assert (
        "0.0.0.0:3000"
        == read("--http-listen", "0.0.0.0:3000", "--allow-unauthenticated", **KEY).settings.http_listen
    )
    assert "0.0.0.0:3000" == read("--http-listen", "0.0.0.0:3000", "--sandbox").settings.http_listen


@pytest.mark.parametrize(
    "words",
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
def test_an_address_is_open_when_that_is_safe_or_said(words, tls_files):
    """Loopback, callers' own keys or certificates, or the operator's word."""
    assert read(*with_files(words, tls_files), **KEY).settings.grpc_listen == words[1]


def test_to_be_encrypted_is_not_to_be_closed(tls_files):
    """TLS alone keeps nobody out who has no certificate: the refusal names every way that does."""
    words = ["--grpc-listen", "0.0.0.0:50051", "--tls-cert-file", "CERT", "--tls-key-file", "KEY"]
    said = problem(*with_files(words, tls_files), **KEY)

    assert (
        "--grpc-listen 0.0.0.0:50051 would let anyone use this service's key: listen on "
        "127.0.0.1, give callers keys (--api-keys-file FILE), use the callers' own keys (--upstream-credentials caller), "
        "require client certificates (--tls-client-ca-file FILE), or set --allow-unauthenticated"
    ) == said


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory):
    authority = trustme.CA()
    folder = Folder(tmp_path_factory.mktemp("tls")).put(Pair(authority), client_ca=authority)
    return {"CERT": str(folder.certificate), "KEY": str(folder.key), "CA": str(folder.client_ca)}


def with_files(words, files):
    return [files.get(word, word) for word in words]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-cert-file", "CERT"], "--tls-cert-file needs its private key: --tls-key-file FILE"),
        (["--tls-key-file", "KEY"], "--tls-key-file says nothing without --tls-cert-file"),
        (["--tls-client-ca-file", "CA"], "--tls-client-ca-file says nothing without --tls-cert-file"),
        (
            ["--tls-cert-file", "/nowhere.pem", "--tls-key-file", "KEY"],
            "TLS: cannot read /nowhere.pem: No such file or directory",
        ),
        (["--tls-cert-file", "CERT", "--tls-key-file", "CERT"], "TLS: CERT holds no private key in PEM"),
    ],
)
def test_half_of_a_tls_setting_is_refused(words, said, tls_files):
    """Each file needs its others, and a name that leads nowhere is named."""
    for word, path in tls_files.items():
        said = said.replace(f" {word} ", f" {path} ")

    assert said == problem(*with_files(words, tls_files), "--sandbox")


def test_certificates_are_there_when_they_are_set(tls_files):
    """Otherwise the service speaks plain text."""
    words = with_files(["--tls-cert-file", "CERT", "--tls-key-file", "KEY"], tls_files)
    certificates = read(*words, "--sandbox").certificates

    assert certificates is not None
    assert not certificates.names_clients
    assert read("--sandbox").certificates is None


CALLERS_KEYS = ["--upstream-credentials", "caller"]
TLS = ["--tls-cert-file", "CERT", "--tls-key-file", "KEY"]


@pytest.mark.parametrize(
    ("words", "warned"),
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
def test_callers_keys_in_plain_text_are_warned_of(words, warned, tls_files):
    """Where another machine can listen; in a mesh it is right, so it is no refusal."""
    said = exposure_warnings(read(*with_files(words, tls_files), **KEY).settings)

    assert ([f"{warned} receives callers' keys in plaintext"] if warned else []) == [
        one.partition(": set")[0] for one in said
    ]


def test_aliases_are_said_in_three_ways(tmp_path):
    """A flag for each, one variable with commas, a table of the file; the strongest source alone counts."""
    file = tmp_path / "settings.toml"
    file.write_text('[alias]\nfast = "a/b"\n"old/id" = "new/id"\n')
    both = {"fast": "a/b", "old/id": "new/id"}

    by_flag = read("--alias", "fast=a/b", "--alias", "old/id=new/id", **KEY)
    by_variable = read(TOGETHERCHAT_ALIAS="fast=a/b, old/id=new/id", **KEY)
    by_file = read("--config", str(file), **KEY)
    over_the_file = read("--config", str(file), "--alias", "slow=c/d", **KEY)

    assert [both] * 3 == [read.settings.alias for read in (by_flag, by_variable, by_file)]
    assert {"slow": "c/d"} == over_the_file.settings.alias


@pytest.mark.parametrize("said", ["fast", "fast=", "=a/b", "fast=a b", "fast=a=b", "f" * 257 + "=a/b"])
def test_an_alias_is_a_name_and_a_model(said):
    """Neither empty, nor with a space, nor longer than a model's name can be."""
    assert "--alias (TOGETHERCHAT_ALIAS): must be NAME=MODEL" in problem("--alias", said, **KEY)


def test_an_alias_of_the_file_is_text(tmp_path):
    """A number is no model."""
    file = tmp_path / "settings.toml"
    file.write_text("[alias]\nfast = 5\n")

    assert "--alias" in problem("--config", str(file), **KEY)


def test_a_console_needs_the_door_that_it_is_a_page_of():
    """It would be nowhere."""
    assert "--http-listen" in problem("--console", "--sandbox")
    assert read("--console", "--http-listen", "127.0.0.1:3000", "--sandbox").settings.console
