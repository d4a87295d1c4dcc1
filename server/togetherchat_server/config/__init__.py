"""How the service is set up: the settings, the provider, and where both are read from."""

from togetherchat_server.config.exposure import LOOPBACK_HOSTS, cautions, is_loopback
from togetherchat_server.config.provider import Upstream, is_together
from togetherchat_server.config.settings import Settings, SettingsError
from togetherchat_server.config.sources import Configuration, flag_parser, read_configuration
from togetherchat_server.config.tls import certificates_of

__all__ = [
    "LOOPBACK_HOSTS",
    "Configuration",
    "Settings",
    "SettingsError",
    "Upstream",
    "cautions",
    "certificates_of",
    "flag_parser",
    "is_loopback",
    "is_together",
    "read_configuration",
]
