"""The whole configuration as one typed, immutable value."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from firerunner.settings.gitlab import GitLabSettings
from firerunner.settings.hosts import HostSettings
from firerunner.settings.pools import PoolSettings
from firerunner.settings.service import DatabaseSettings, ListenSettings, LogSettings, WebhookSettings


class Settings(BaseSettings):
    """Environment variables (`FIRERUNNER_GITLAB__URL`) win over the file."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="FIRERUNNER_",
        env_nested_delimiter="__",
        validate_default=True,
    )

    gitlab: GitLabSettings
    pools: tuple[PoolSettings, ...] = Field(min_length=1)
    hosts: tuple[HostSettings, ...] = (HostSettings(),)
    listen: ListenSettings = ListenSettings()
    webhook: WebhookSettings = WebhookSettings()
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()

    state_dir: Path = Path("/var/lib/firerunner")
    """Machines, ledger and keys."""

    image_dir: Path | None = None
    """The image store. None: `images` in the state directory."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then the file (which comes in as init arguments)."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _names_fit(self) -> Settings:
        hosts = [host.name for host in self.hosts]
        for kind, names in (("pools", [pool.name for pool in self.pools]), ("hosts", hosts)):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{kind}: the name {twice[0]!r} is used twice")
        for pool in self.pools:
            unknown = set(pool.hosts) - set(hosts)
            if unknown:
                raise ValueError(f"pools: {pool.name} names the host {min(unknown)!r}, which is not in hosts")
        return self

    @property
    def database_url(self) -> str:
        """Where the ledger is."""
        return self.database.url or f"sqlite:///{self.state_dir / 'ledger.db'}"

    @property
    def image_store(self) -> Path:
        """Where images are."""
        return self.image_dir or self.state_dir / "images"

    @property
    def key_file(self) -> Path:
        """Where the ledger's keys are."""
        return self.database.key_file or self.state_dir / "ledger.key"

    def pool(self, name: str) -> PoolSettings:
        """The pool of that name. Raises KeyError."""
        return next(pool for pool in self.pools if pool.name == name)

    def shown(self) -> dict[str, Any]:
        """The settings in force, secrets as stars, for people and programs to read."""
        return self.model_dump(mode="json")
