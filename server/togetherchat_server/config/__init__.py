"""How the service is set up: the settings, the provider, and where both are read from."""

from togetherchat_server.config.exposure import LOOPBACK_HOSTS, exposure_warnings, is_loopback
from togetherchat_server.config.provider import ProviderConfig, is_together
from togetherchat_server.config.settings import LogFormat, Settings, SettingsError
from togetherchat_server.config.sources import Configuration, flag_parser, read_configuration, read_settings
from togetherchat_server.config.tls import load_certificates

__all__ = [
    "LOOPBACK_HOSTS",
    "Configuration",
    "LogFormat",
    "ProviderConfig",
    "Settings",
    "SettingsError",
    "exposure_warnings",
    "flag_parser",
    "is_loopback",
    "is_together",
    "load_certificates",
    "read_configuration",
    "read_settings",
]
