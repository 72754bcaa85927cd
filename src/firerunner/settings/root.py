"""The whole configuration as one typed, immutable value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from firerunner.machines.spec import Destination
from firerunner.settings.api import ApiSettings
from firerunner.settings.gitlab import GitLabSettings
from firerunner.settings.hosts import HostSettings
from firerunner.settings.pools import PoolSettings
from firerunner.settings.proxy import ProxySettings
from firerunner.settings.service import DatabaseSettings, ListenSettings, LogSettings, WebhookSettings
from firerunner.settings.telemetry import TelemetrySettings
from firerunner.settings.values import without_user

ENV_PREFIX = "FIRERUNNER_"
ENV_DELIMITER = "__"


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, dict | GitLabSettings) else value


def _text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in labels.items())


def _without_users(value: Any) -> Any:
    """`docker_daemon` may name proxies and mirrors with their passwords."""
    if isinstance(value, dict):
        return {key: _without_users(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_users(each) for each in value]
    return without_user(value) if isinstance(value, str) and "://" in value else value


class _Environment(EnvSettingsSource):
    """Lists and sections may be JSON; a value that is not goes to the field as it is, which may take it."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """Environment variables (`FIRERUNNER_GITLAB__URL`) win over the file."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    gitlab: Annotated[tuple[GitLabSettings, ...], BeforeValidator(_one_or_several)] = Field(min_length=1)
    """The GitLab whose jobs are run; or a list of them, each with a `name`."""

    pools: tuple[PoolSettings, ...] = Field(min_length=1)
    """What is offered to GitLab: each pool is one runner there."""

    hosts: tuple[HostSettings, ...] = (HostSettings(),)
    """Where machines run."""

    listen: ListenSettings = ListenSettings()
    webhook: WebhookSettings = WebhookSettings()
    api: ApiSettings = ApiSettings()
    proxy: ProxySettings = ProxySettings()
    """How this computer reaches GitLab. Guests have their pool's `proxy`."""

    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    state_dir: Path = Path("/var/lib/firerunner")
    """Machines, ledger and keys."""

    image_dir: Path | None = None
    """The image store. None: `images` in the state directory."""

    _secret_files: frozenset[Path] = PrivateAttr(default=frozenset())
    _read_again: Callable[[], Settings] | None = PrivateAttr(default=None)

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
        return _Environment(settings_cls), init_settings

    @model_validator(mode="after")
    def _names_fit(self) -> Settings:
        gitlabs = [gitlab.name for gitlab in self.gitlab]
        hosts = [host.name for host in self.hosts]
        pools = [pool.name for pool in self.pools]
        for kind, names in (("gitlab", gitlabs), ("pools", pools), ("hosts", hosts)):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{kind}: the name {twice[0]!r} is used twice")
        for pool in self.pools:
            unknown = set(pool.hosts) - set(hosts)
            if unknown:
                raise ValueError(f"pools: {pool.name} names the host {min(unknown)!r}, which is not in hosts")
            if pool.host_labels and not self._with_labels(pool):
                raise ValueError(f"pools: no host of {pool.name} has the labels {_text(pool.host_labels)}")
            self._check_egress(pool)
            if not pool.gitlab and len(gitlabs) > 1:
                raise ValueError(f"pools: {pool.name} must say which `gitlab`: {', '.join(gitlabs)}")
            if pool.gitlab and pool.gitlab not in gitlabs:
                raise ValueError(f"pools: {pool.name} names the gitlab {pool.gitlab!r}, which is not there")
            if pool.sized is not None and self.gitlab_of(pool).api_token is None:
                raise ValueError(f"pools: {pool.name} is `sized`, which needs the gitlab's api_token")
        return self

    def _check_egress(self, pool: PoolSettings) -> None:
        detours = [each.host for each in pool.egress if isinstance(each, Destination) and each.connect_to]
        elsewhere = [host.name for host in self.hosts_of(pool) if host.driver == "flintlock"]
        if detours and elsewhere:
            raise ValueError(
                f"pools: {pool.name}: egress {detours[0]} has connect_to, which host {elsewhere[0]} cannot "
                "follow: make the name resolve in the network of its guests"
            )

    @property
    def database_url(self) -> str:
        """Where the ledger is."""
        url = self.database.url
        return url.get_secret_value() if url else f"sqlite:///{self.state_dir / 'ledger.db'}"

    @property
    def image_store(self) -> Path:
        """Where images are."""
        return self.image_dir or self.state_dir / "images"

    @property
    def key_file(self) -> Path:
        """Where the ledger's keys are."""
        return self.database.key_file or self.state_dir / "ledger.key"

    @property
    def secret_files(self) -> frozenset[Path]:
        """The files that secrets were read from."""
        return self._secret_files

    def read_from(self, secret_files: frozenset[Path], again: Callable[[], Settings]) -> Settings:
        """The same settings, knowing their secrets' files and how those are read again."""
        self._secret_files, self._read_again = secret_files, again
        return self

    def reread(self) -> Settings:
        """The same configuration with the secrets that its files hold now. Raises SettingsError."""
        return self._read_again() if self._read_again else self

    def with_sections(self, sections: Mapping[str, Any]) -> Settings:
        """The same settings with other values for some sections."""
        return self.model_copy(update=sections)

    def pool(self, name: str) -> PoolSettings:
        """The pool of that name. Raises KeyError."""
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise KeyError(name)

    def gitlab_of(self, pool: PoolSettings) -> GitLabSettings:
        """The GitLab that gives the pool its jobs."""
        return next(gitlab for gitlab in self.gitlab if pool.gitlab in {"", gitlab.name})

    def asking_pools(self) -> dict[str, PoolSettings]:
        """The pools that have a runner of their own, by name; each says which GitLab and which hosts."""
        return {pool.name: self._resolved(pool) for pool in self.pools if pool.sized is None}

    def templates(self) -> list[PoolSettings]:
        """The pools that are templates for sized tags; each says which GitLab and which hosts."""
        return [self._resolved(pool) for pool in self.pools if pool.sized is not None]

    def hosts_of(self, pool: PoolSettings) -> tuple[HostSettings, ...]:
        """The hosts that may run the pool's machines."""
        return tuple(
            host
            for host in self.hosts
            if (not pool.hosts or host.name in pool.hosts) and host.has_labels(pool.host_labels)
        )

    def _with_labels(self, pool: PoolSettings) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts_of(pool))

    def _resolved(self, pool: PoolSettings) -> PoolSettings:
        """An empty list of hosts would be all of them: where labels fit none, the list holds the labels."""
        hosts = self._with_labels(pool) or (_text(pool.host_labels),) if pool.host_labels else pool.hosts
        return pool.model_copy(update={"gitlab": self.gitlab_of(pool).name, "hosts": hosts})

    @classmethod
    def schema_for_editors(cls) -> dict[str, Any]:
        """A JSON Schema of the configuration file."""
        schema = cls.model_json_schema()
        several = schema["properties"]["gitlab"]
        described = several.pop("description")
        schema["properties"]["gitlab"] = {
            "description": described,
            "anyOf": [several["items"], {"type": "array", **several}],
        }
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def shown(self) -> dict[str, Any]:
        """The settings in force, secrets as stars, for people and programs to read."""
        return {name: _without_users(value) for name, value in self.model_dump(mode="json").items()}
