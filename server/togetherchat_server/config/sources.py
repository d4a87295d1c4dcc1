"""Reads the settings. Flags win over environment variables, which win over the TOML file.

Knows no process: the caller passes the command-line arguments and the environment.
"""

import argparse
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, final

from pydantic import ValidationError

from togetherchat_server.config.exposure import reject_open_access
from togetherchat_server.config.listen_address import ListenAddress
from togetherchat_server.config.provider import ProviderConfig, is_together, load_provider
from togetherchat_server.config.proxy import Proxy, proxy_from_environment
from togetherchat_server.config.settings import Settings, SettingsError
from togetherchat_server.config.tls import Certificates, load_certificates
from togetherchat_server.config.types import OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings, the provider (None: sandbox) and the served certificates (None: plaintext)."""

    settings: Settings
    provider: ProviderConfig | None
    certificates: Certificates | None = None
    jwks_proxy: Proxy | None = None
    """The egress proxy to --jwt-jwks-url."""

    @property
    def serves_together(self) -> bool:
        """Whether the provider is Together or the sandbox, and not another API of the same format."""
        return self.provider is None or is_together(self.provider.base_url)


def read_configuration(arguments: Sequence[str], environment: Mapping[str, str]) -> Configuration:
    """Read the configuration from flags, environment and file.

    Raises:
        SettingsError: a setting is invalid or missing.
        SystemExit: argparse printed help.
    """
    flags = vars(flag_parser().parse_args(arguments))
    path = flags.pop("config", None) or environment.get("TOGETHERCHAT_CONFIG")
    chosen = {**_from_file(path), **_from_environment(environment), **flags}
    try:
        settings = Settings.model_validate(chosen)
    except ValidationError as exc:
        raise SettingsError(_first_problem(exc)) from None
    if settings.console and settings.http_listen is None:
        raise SettingsError(
            "--console: the console is a page of the HTTP listener; set --http-listen HOST:PORT"
        )
    _check_listeners(settings)
    provider = None if settings.sandbox else load_provider(settings, environment)
    if provider is not None:
        reject_open_access(settings, provider)
    return Configuration(
        settings=settings,
        provider=provider,
        certificates=load_certificates(settings),
        jwks_proxy=_jwks_proxy(settings, environment),
    )


def read_settings(
    names: Collection[str], flags: Mapping[str, object], environment: Mapping[str, str]
) -> Settings:
    """Read only the named settings, for a command that does not serve. All others have their defaults.

    Raises:
        SettingsError: a setting is invalid.
    """
    given = {name: flags[name] for name in names if flags.get(name) is not None}
    chosen = {name: value for name, value in _from_environment(environment).items() if name in names}
    try:
        return Settings.model_validate({**chosen, **given})
    except ValidationError as exc:
        raise SettingsError(_first_problem(exc)) from None


def _check_listeners(settings: Settings) -> None:
    for name in ("grpc_listen", "http_listen", "health_listen"):
        address: str | None = getattr(settings, name)
        if address is not None and settings.workers != 1 and ListenAddress.parse(address).path:
            flag = name.replace("_", "-")
            raise SettingsError(f"--{flag}: workers cannot share a UNIX socket; set --workers 1")


def _jwks_proxy(settings: Settings, environment: Mapping[str, str]) -> Proxy | None:
    url = settings.jwt_jwks_url or ""
    if not url.startswith(("http://", "https://")):
        return None
    try:
        proxy = proxy_from_environment(url, environment)
    except ValueError as exc:
        raise SettingsError(str(exc)) from None
    if proxy is not None and proxy.is_socks:
        raise SettingsError(
            f"--jwt-jwks-url: cannot be fetched through {proxy}, a SOCKS proxy; add its host to NO_PROXY"
        )
    return proxy


@final
class _Parser(argparse.ArgumentParser):
    """Raises a `SettingsError` of one line, as every other source of settings does."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help lists the settings")


def flag_parser() -> argparse.ArgumentParser:
    """Build the flags from the fields of `Settings`."""
    parser = _Parser(
        prog="togetherchat-server",
        description="Together AI's chat models over gRPC.",
        epilog="TOGETHER_API_KEY or TOGETHER_API_KEY_FILE sets the provider's key, TOGETHER_BASE_URL "
        "its base URL. "
        "Every flag is also TOGETHERCHAT_<FLAG> in the environment and a key of the TOML file. "
        "`togetherchat-server keys --help` describes the callers' keys, `usage --help` the usage ledger.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = _shown(field.default)
        text = f"{field.description} (default: {default})"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif isinstance(field.default, dict):
            parser.add_argument(flag, metavar=_metavar(name), action="append", help=text)
        else:
            parser.add_argument(flag, metavar=_metavar(name), help=text)
    return parser


def _shown(default: object) -> object:
    """Return a default as an operator writes it."""
    if default in (None, ()):
        return OFF
    return str(default).lower() if isinstance(default, bool) else default


def _metavar(name: str) -> str:
    last = name.rpartition("_")[2]
    return _METAVARS.get(name) or _METAVARS.get(f"{name.partition('_')[0]}_*", last.upper())


_METAVARS: Final = {
    "admin_hosts": "NAME,...",
    "admin_listen": "HOST:PORT",
    "alias": "NAME=MODEL",
    "audit_log": "FILE|stderr",
    "health_listen": "HOST:PORT",
    "http_listen": "HOST:PORT",
    "api_keys_file": "FILE",
    "grpc_listen": "HOST:PORT",
    "redis_url": "URL",
    "tenants_file": "FILE",
    "usage_database": "URL",
    "usage_spill_dir": "FOLDER",
    "trusted_proxies": "NETWORK,...",
    "tls_*": "FILE",
    "workers": "N|auto",
}


def _from_file(path: str | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration file {path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"the configuration file {path} is not TOML: {exc}") from None
    return {key.replace("-", "_"): value for key, value in table.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    named = {"TOGETHERCHAT_" + name.upper(): name for name in Settings.model_fields}
    return {named[key]: value for key, value in environment.items() if key in named and value}


def _first_problem(exc: ValidationError) -> str:
    problem = exc.errors(include_url=False, include_context=False)[0]
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name!r}; --help lists the settings"
    flag = "--" + name.replace("_", "-")
    return f"{flag} (TOGETHERCHAT_{name.upper()}): {problem['msg'].removeprefix('Value error, ')}"
