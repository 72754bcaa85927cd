"""`firerunner gitlab`: make the runners and hooks in GitLab, and check that all fits together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from firerunner.cli.gitlab_options import (
    default_hook_owner,
    levels,
    optional_token,
    owner_of,
    pairs,
    token_of,
    words,
    yes_or_no,
)
from firerunner.cli.gitlab_setup import Manner, show_and_do
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, print_findings
from firerunner.findings import Finding, Level
from firerunner.gitlab import Scope, ScopeKind
from firerunner.settings import GitLabSettings, PoolSettings, Settings, load_settings
from firerunner.setup.booting import check_guests
from firerunner.setup.checking import Request, check_gitlab
from firerunner.setup.looking import make_plan, require_scope
from firerunner.setup.reaching import rest_client
from firerunner.setup.wishes import Options, chosen_gitlab, chosen_pools, hook_wish, runner_wishes

app = typer.Typer(no_args_is_help=True, help="Set up runners and webhooks in GitLab, and check them.")

GitLabName = Annotated[
    str | None, typer.Option("--gitlab", help="Which GitLab of the configuration, if there are several.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="A file with a GitLab token, for this once; or GITLAB_TOKEN; or asked."
    ),
]


@app.command()
def setup(
    project: Annotated[
        str | None, typer.Option(help="Full path or id of the project that the runners are for.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Likewise a group.")] = None,
    instance: Annotated[
        bool, typer.Option("--instance", help="For the whole GitLab; an administrator's token.")
    ] = False,
    pool: Annotated[
        list[str] | None, typer.Option(help="Only this pool; may be repeated. [default: all]")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="POOL=TAG,TAG. A new runner's default is the pool's name.")
    ] = None,
    run_untagged: Annotated[
        list[str] | None, typer.Option(help="POOL, to take jobs without tags too; POOL=no, not to.")
    ] = None,
    access_level: Annotated[
        list[str] | None, typer.Option(help="[POOL=]not_protected or [POOL=]ref_protected.")
    ] = None,
    webhook_url: Annotated[
        str | None, typer.Option(help="Make a webhook with this address, https://HOST/webhook.")
    ] = None,
    hook_project: Annotated[
        list[str] | None, typer.Option(help="Make it in this project instead; may be repeated.")
    ] = None,
    hook_group: Annotated[
        list[str] | None, typer.Option(help="Make it in this group instead; may be repeated.")
    ] = None,
    hooks_only: Annotated[bool, typer.Option("--hooks-only", help="Leave runners alone.")] = False,
    rotate: Annotated[
        list[str] | None, typer.Option(help="Give this pool's runner a new token; may be repeated.")
    ] = None,
    resend_secrets: Annotated[
        bool, typer.Option("--resend-secrets", help="Tell GitLab the webhook's secrets again.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    gitlab: GitLabName = None,
    token_file: TokenFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Make each pool's runner and the webhook in GitLab; say first what will be done. Safe to repeat.

    Tokens and secrets are written into the files that the configuration names (`runner_token_file`,
    `webhook_secret_file`, `webhook_signing_token_file`). The GitLab token needs the scope `api`; it is asked
    for, or taken from --token-file or GITLAB_TOKEN, and kept nowhere.

    Example: firerunner gitlab setup --project group/app --tag small=linux,small
    --webhook-url https://firerunner.example.com/webhook
    """
    if as_json and not (dry_run or yes):
        raise typer.BadParameter("--json goes with --dry-run or --yes")
    settings = load_settings(config, missing_secrets="placeholder")
    chosen = chosen_gitlab(settings, gitlab)
    options = Options(
        gitlab=chosen.name,
        pools=tuple(pool or ()),
        tags={name: words(value) for name, value in pairs("--tag", tag)},
        run_untagged={name: yes_or_no(value) for name, value in pairs("--run-untagged", run_untagged, "yes")},
        access_level=levels(access_level),
        rotate=frozenset(rotate or ()),
        webhook_url=webhook_url,
        resend_secrets=resend_secrets,
    )
    runners = [] if hooks_only else runner_wishes(settings, chosen, options)
    hook = hook_wish(chosen, options)
    owner = owner_of(project, group, instance, needed=bool(runners))
    hook_owners: list[tuple[ScopeKind, str]] = [
        *(("project", path) for path in hook_project or ()),
        *(("group", path) for path in hook_group or ()),
    ]
    if hook is not None and not hook_owners:
        hook_owners = default_hook_owner(owner)
    if hook is None and (hook_owners or hooks_only):
        raise typer.BadParameter("--webhook-url is missing")
    token = token_of(token_file, chosen.url)

    async def run() -> None:
        async with rest_client(settings, chosen, token) as rest:
            await require_scope(rest)
            scope = await rest.scope(*owner) if runners else Scope("instance")
            hook_scopes = [await rest.scope(*hook_owner) for hook_owner in hook_owners]
            steps = await make_plan(rest, scope, runners, hook, hook_scopes)
            await show_and_do(rest, steps, hook, Manner(dry_run, yes, as_json))

    asyncio.run(run())


@app.command()
def check(
    pool: Annotated[
        list[str] | None, typer.Option(help="Only this pool; may be repeated. [default: all]")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Look at the hook of this project; may be repeated.")
    ] = None,
    group: Annotated[list[str] | None, typer.Option(help="Likewise a group.")] = None,
    webhook_url: Annotated[
        str | None, typer.Option(help="The hook's address. [default: any that ends in /webhook]")
    ] = None,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Have GitLab send its own test of each hook.")
    ] = False,
    from_guest: Annotated[
        bool, typer.Option("--from-guest", help="Boot each pool's image and reach GitLab from inside.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    gitlab: GitLabName = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Look whether GitLab, runners, webhooks and clocks are as FireRunner needs them; name each remedy.

    Runners and hooks are looked at with the configuration's `api_token`, --token-file or GITLAB_TOKEN.
    Exit status 1 if something will not work.

    Example: firerunner gitlab check --send-test
    """
    settings = load_settings(config)
    gitlabs = [chosen_gitlab(settings, gitlab)] if gitlab or len(settings.gitlab) == 1 else settings.gitlab
    request = Request(
        token=optional_token(token_file),
        hook_owners=(
            *(("project", path) for path in project or ()),
            *(("group", path) for path in group or ()),
        ),
        webhook_url=webhook_url,
        send_test=send_test,
    )
    pools = [pool for one in gitlabs for pool in chosen_pools(settings, one, ())]
    unknown = set(pool or ()) - {known.name for known in pools}
    if unknown:
        raise typer.BadParameter(f"--pool: there is no pool {min(unknown)!r} with a runner of its own")
    wanted = [known for known in pools if not pool or known.name in pool]
    findings = asyncio.run(_check(settings, gitlabs, wanted, request, from_guest=from_guest))
    print_findings(findings, as_json=as_json)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


async def _check(
    settings: Settings,
    gitlabs: Sequence[GitLabSettings],
    pools: Sequence[PoolSettings],
    request: Request,
    *,
    from_guest: bool,
) -> list[Finding]:
    findings: list[Finding] = []
    for one in gitlabs:
        theirs = [pool for pool in pools if settings.gitlab_of(pool) is one]
        findings += await check_gitlab(settings, one, theirs, request)
    if from_guest:
        findings += await check_guests(settings, pools)
    return findings
