"""What set-up is to bring about, out of the settings and the command's options. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from firerunner.errors import SettingsError
from firerunner.settings import GitLabSettings, PoolSettings, Settings
from firerunner.settings.values import checked_url

MIN_TIMEOUT_S = 600
"""GitLab takes no shorter `maximum_timeout` (Rails app/models/ci/runner.rb)."""

EVERY_POOL = ""
ACCESS_LEVELS = ("not_protected", "ref_protected")


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator said. What is not said about a runner that exists stays as it is in GitLab."""

    gitlab: str | None = None
    pools: tuple[str, ...] = ()
    """Empty: all that have a runner of their own."""
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By pool."""
    run_untagged: Mapping[str, bool] = field(default_factory=dict)
    """By pool."""
    access_level: Mapping[str, str] = field(default_factory=dict)
    """By pool; `EVERY_POOL` for those that are not named."""
    rotate: frozenset[str] = frozenset()
    """Pools whose runner gets a new token although the old one works."""
    webhook_url: str | None = None
    resend_secrets: bool = False
    """Tell GitLab the hook's secrets again, should its hook have others: GitLab shows none."""


@dataclass(frozen=True, slots=True)
class RunnerWish:
    """A pool's runner. None: as it is, or the default for one that is made."""

    pool: str
    token_file: Path
    maximum_timeout_s: int
    tags: tuple[str, ...] | None = None
    run_untagged: bool | None = None
    access_level: str | None = None
    rotate: bool = False


@dataclass(frozen=True, slots=True)
class SecretWish:
    """A secret that a hook has to know: given in the configuration, or in a file that may be made."""

    name: str
    """`webhook_secret` or `webhook_signing_token`."""
    path: Path | None
    given: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HookWish:
    """A hook in each of some projects or groups."""

    url: str
    secrets: tuple[SecretWish, ...]
    resend: bool = False


def chosen_gitlab(settings: Settings, name: str | None) -> GitLabSettings:
    """The GitLab of that name, or the only one. Raises SettingsError."""
    found = [gitlab for gitlab in settings.gitlab if name in {None, gitlab.name}]
    if len(found) != 1:
        names = ", ".join(gitlab.name for gitlab in settings.gitlab)
        said = f"there is no gitlab {name!r}" if name else "there are several GitLabs"
        raise SettingsError(f"{said} in the configuration", remedy=f"Say --gitlab; known: {names}")
    return found[0]


def chosen_pools(settings: Settings, gitlab: GitLabSettings, names: tuple[str, ...]) -> list[PoolSettings]:
    """The pools of that GitLab with a runner of their own, or those named. Raises SettingsError."""
    pools = {
        pool.name: pool
        for pool in settings.pools
        if settings.gitlab_of(pool) is gitlab and pool.sized is None
    }
    _require_known(names, pools, "--pool")
    return [pool for name, pool in pools.items() if not names or name in names]


def runner_wishes(settings: Settings, gitlab: GitLabSettings, options: Options) -> list[RunnerWish]:
    """One for each chosen pool. Raises SettingsError for what cannot be meant."""
    pools = chosen_pools(settings, gitlab, options.pools)
    known = [pool.name for pool in pools]
    _require_known(options.tags, known, "--tag")
    _require_known(options.run_untagged, known, "--run-untagged")
    _require_known([name for name in options.access_level if name != EVERY_POOL], known, "--access-level")
    _require_known(options.rotate, known, "--rotate")
    return [_wish(pool, options) for pool in pools]


def hook_wish(gitlab: GitLabSettings, options: Options) -> HookWish | None:
    """None if no address was given. Raises SettingsError if the configuration has no secret for hooks."""
    if options.webhook_url is None:
        return None
    if not gitlab.knows_its_hooks:
        raise SettingsError(
            f"gitlab {gitlab.name} has no webhook_secret_file, so its hooks would be refused",
            remedy="Add `webhook_secret_file: PATH` to the configuration; the file is made by this command",
        )
    try:
        url = checked_url(options.webhook_url)
    except ValueError as error:
        raise SettingsError(f"--webhook-url: {error}", remedy="Say https://HOST/webhook") from error
    secrets = []
    for name, given in (
        ("webhook_secret", gitlab.webhook_secret),
        ("webhook_signing_token", gitlab.webhook_signing_token),
    ):
        if given is not None:
            path = gitlab.secret_path(name)
            secrets.append(SecretWish(name, path, None if path else given.get_secret_value()))
    return HookWish(url, tuple(secrets), options.resend_secrets)


def _wish(pool: PoolSettings, options: Options) -> RunnerWish:
    token_file = pool.secret_path("runner_token")
    if token_file is None:
        raise SettingsError(
            f"pool {pool.name} has its runner_token in the configuration itself",
            remedy="Say `runner_token_file: PATH` instead; the token is written there",
        )
    return RunnerWish(
        pool=pool.name,
        token_file=token_file,
        maximum_timeout_s=max(MIN_TIMEOUT_S, math.ceil(pool.max_job_time)),
        tags=options.tags.get(pool.name),
        run_untagged=options.run_untagged.get(pool.name),
        access_level=options.access_level.get(pool.name, options.access_level.get(EVERY_POOL)),
        rotate=pool.name in options.rotate,
    )


def _require_known(names: Iterable[str], known: Iterable[str], option: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        listed = ", ".join(known) or "none"
        raise SettingsError(
            f"{option}: there is no pool {unknown[0]!r} with a runner of its own here",
            remedy=f"Known: {listed}",
        )
