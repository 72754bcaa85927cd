"""YAML, environment and secret files become typed settings; the only reader of configuration."""

from firerunner.settings.api import ApiSettings
from firerunner.settings.gitlab import GitLabSettings
from firerunner.settings.hosts import HostSettings, TlsSettings
from firerunner.settings.load import load_settings
from firerunner.settings.pools import PoolSettings
from firerunner.settings.proxy import ProxySettings
from firerunner.settings.root import Settings
from firerunner.settings.service import DatabaseSettings, ListenSettings, LogSettings, WebhookSettings
from firerunner.settings.sized import SizedSettings

__all__ = [
    "ApiSettings",
    "DatabaseSettings",
    "GitLabSettings",
    "HostSettings",
    "ListenSettings",
    "LogSettings",
    "PoolSettings",
    "ProxySettings",
    "Settings",
    "SizedSettings",
    "TlsSettings",
    "WebhookSettings",
    "load_settings",
]
