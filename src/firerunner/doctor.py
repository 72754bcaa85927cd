"""What stands between this computer and a running FireRunner, each item with its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from urllib.parse import urlsplit

import httpx

from firerunner.app import image_store
from firerunner.errors import FireRunnerError, TokenRefused
from firerunner.findings import Finding, Level
from firerunner.gate import GATE_SAYS
from firerunner.gitlab import RunnersClient, new_http
from firerunner.hosting import opened
from firerunner.images import RunnerKind, missing_tools
from firerunner.machines.flintlock.driver import FlintlockDriver
from firerunner.machines.qemu import QemuDriver
from firerunner.settings import GitLabSettings, HostSettings, PoolSettings, Settings
from firerunner.settings.egress import plain

SHOWN = 3
NOT_FOR_PRODUCTION = "For tests only. Build one with GitLab's: firerunner image build --again"


async def examine_computer(name: str, driver: QemuDriver) -> list[Finding]:
    """Can machines be made and images be built here?"""
    findings = [
        Finding(Level.FAIL, name, problem.what, problem.remedy) for problem in await driver.check()
    ] or [Finding(Level.OK, name, "machines can be made here")]
    findings += [
        Finding(
            Level.WARN,
            "image build",
            f"{tool.tool} is missing: {tool.why}",
            f"apt-get install {tool.package}",
        )
        for tool in missing_tools()
    ]
    capacity = await driver.capacity()
    room = f"{capacity.vcpu} vCPU, {capacity.memory_mib} MiB memory, {capacity.disk_mib} MiB disk to give out"
    findings.append(Finding(Level.OK, name, room))
    abilities = driver.abilities()
    if abilities.limiting_controllers:
        limits = ", ".join(abilities.limiting_controllers)
        findings.append(Finding(Level.OK, name, f"control groups limit machines: {limits}"))
    else:
        findings.append(
            Finding(
                Level.WARN,
                name,
                "no control group limits machines",
                "None is needed. A service that runs as root has them where the computer offers them: "
                "docs/install.md",
            )
        )
    return findings


async def examine_hosts(settings: Settings, only: str | None = None) -> list[Finding]:
    """Each host, or one of them: can machines be made there?"""
    findings: list[Finding] = []
    for host in settings.hosts:
        if only not in {None, host.name}:
            continue
        async with opened(settings, host) as driver:
            name = f"host {host.name}"
            if isinstance(driver, QemuDriver):
                findings += await examine_computer(name, driver)
            else:
                findings += await examine_flintlock(name, driver) + await _gate(settings, host)
                findings.append(_egress(settings, host))
    return findings


async def examine_flintlock(name: str, driver: FlintlockDriver) -> list[Finding]:
    """Does the daemon answer, and is our namespace ours alone?"""
    problems = await driver.check()
    if problems:
        return [Finding(Level.FAIL, name, problem.what, problem.remedy) for problem in problems]
    room = await driver.capacity()
    findings = [
        Finding(
            Level.OK,
            name,
            f"Flintlock answers; {room.vcpu} vCPU, {room.memory_mib} MiB memory, {room.disk_mib} MiB disk",
        )
    ]
    strangers = await driver.strangers()
    if strangers:
        findings.append(
            Finding(
                Level.WARN,
                name,
                f"{len(strangers)} microVMs in our namespace are not ours: {', '.join(strangers[:SHOWN])}",
                "They are left alone and take room; give each user of the host a namespace of its own",
            )
        )
    return findings


def _egress(settings: Settings, host: HostSettings) -> Finding:
    """What its network has to let guests through to; nobody but the host follows a pool's egress there."""
    gate = urlsplit(host.gate_url)
    wanted = {f"{gate.hostname}:{gate.port or (443 if gate.scheme == 'https' else 80)}": None}
    for pool in settings.pools:
        if host in settings.hosts_of(pool):
            wanted |= dict.fromkeys(map(plain, pool.outside(settings.gitlab_of(pool).destination)))
    return Finding(
        Level.OK,
        f"host {host.name}",
        f"its network has to let guests through to {', '.join(wanted)}",
        "EGRESS in its host.conf, by addresses; it counts for all pools on this host",
    )


async def _gate(settings: Settings, host: HostSettings) -> list[Finding]:
    """What a guest would find at `gate_url`, as far as it can be seen from here."""
    name, url = f"host {host.name}", host.gate_url
    try:
        ca_file = settings.listen.gate_ca_file
        async with new_http(ca_file=ca_file, proxy=None) as http:
            answer = await http.get(url, timeout=5.0)
    except httpx.HTTPError as error:
        remedy = "Does the service run? `listen.gate_https`, its certificate and `gate_ca_file` go together"
        return [Finding(Level.WARN, name, f"the gate is not reached at {url}: {error}", remedy)]
    if GATE_SAYS not in answer.text:
        what = f"what answers at {url} is not FireRunner's gate (status {answer.status_code})"
        return [
            Finding(Level.FAIL, name, what, "`gate_url` is where guests of this host reach `listen.gate`")
        ]
    return [Finding(Level.OK, name, f"the gate answers at {url}")]


async def examine_settings(settings: Settings) -> list[Finding]:
    """Are images there, is KVM real, does GitLab take the runner tokens?"""
    findings = await never_made(settings) + await _too_large(settings)
    for pool in settings.pools:
        try:
            image = image_store(settings).resolve(pool.image)
        except FireRunnerError as error:
            findings.append(Finding(Level.FAIL, f"pool {pool.name}", error.message, error.remedy))
            continue
        runner = image.manifest.runner
        has = f"image with {runner.kind} gitlab-runner {runner.version}"
        if runner.kind is RunnerKind.OFFICIAL:
            findings.append(Finding(Level.OK, f"pool {pool.name}", has))
        else:
            findings.append(Finding(Level.WARN, f"pool {pool.name}", has, NOT_FOR_PRODUCTION))
        for host in settings.hosts_of(pool):
            async with opened(settings, host) as driver:
                how = _start(
                    pool, restores=isinstance(driver, QemuDriver), cloud_init=image.manifest.cloud_init
                )
                findings.append(Finding(Level.OK, f"pool {pool.name}", f"host {host.name}: {how}"))
                if isinstance(driver, QemuDriver):
                    accelerator = await driver.accelerator(image.files)
                    if accelerator is not None:
                        findings.append(
                            _accelerator(f"host {host.name}", accelerator.kind, accelerator.reason)
                        )
                elif (why := driver.refusal(pool.resources, (), image.files)) is not None:
                    findings.append(Finding(Level.FAIL, f"pool {pool.name}", f"host {host.name}: {why}"))
    return list(dict.fromkeys(findings)) + await _tokens(settings)


async def never_made(settings: Settings) -> list[Finding]:
    """The pools of whose size and egress no host could make a machine; they do not ask GitLab."""
    findings = []
    for pool in settings.pools:
        egress = pool.outside(settings.gitlab_of(pool).destination)
        refusals: dict[str, str | None] = {}
        for host in settings.hosts_of(pool):
            async with opened(settings, host) as driver:
                refusals[host.name] = driver.refusal(pool.resources, egress)
        if refusals and None not in refusals.values():
            host_name, why = next(iter(refusals.items()))
            where = f" on host {host_name}" if len(settings.hosts) > 1 else ""
            findings.append(
                Finding(
                    Level.FAIL,
                    f"pool {pool.name}",
                    f"no machine can be made{where}: {why}",
                    "It takes no job until then",
                )
            )
    return findings


async def _too_large(settings: Settings) -> list[Finding]:
    """The pools of which one machine needs more than a host of theirs gives out in all."""
    findings = []
    for host in settings.hosts:
        async with opened(settings, host) as driver:
            if await driver.check():
                continue  # it is not usable at all, which is said elsewhere
            room = asdict(await driver.capacity())
        for pool in settings.pools:
            wanted = asdict(pool.resources) if host in settings.hosts_of(pool) else {}
            lacking = ", ".join(
                f"{room[name]} of {need} {name}" for name, need in wanted.items() if room[name] < need
            )
            if lacking:
                what = f"host {host.name} gives out less than one machine needs: {lacking}"
                remedy = "Smaller machines, or more room on the host: docs/sizing.md"
                findings.append(Finding(Level.WARN, f"pool {pool.name}", what, remedy))
    return findings


def _start(pool: PoolSettings, *, restores: bool, cloud_init: bool) -> str:
    """How the pool's machines start on a host."""
    if pool.start == "cold":
        return "machines boot, as `start` says"
    if not restores:
        return "machines boot: its driver restores none"
    if cloud_init:
        return "machines boot: an image with cloud-init is not restored"
    return "machines are restored from a saved state of the image, and boot while there is none"


def _accelerator(host: str, kind: str, reason: str) -> Finding:
    if kind == "kvm":
        return Finding(Level.OK, host, "a guest boots with KVM")
    return Finding(Level.WARN, host, f"guests are emulated, 10 times slower: {reason}", "Use a host with KVM")


async def _tokens(settings: Settings) -> list[Finding]:
    findings = []
    for gitlab in settings.gitlab:
        tokens = {p.name: p.token for p in settings.asking_pools().values() if p.gitlab == gitlab.name}
        findings += await _tokens_of(gitlab, settings.proxy.for_url(gitlab.url), tokens)
    return findings


async def _tokens_of(gitlab: GitLabSettings, proxy: str | None, tokens: Mapping[str, str]) -> list[Finding]:
    findings = []
    async with new_http(ca_file=gitlab.ca_file, proxy=proxy) as http:
        runners = RunnersClient(gitlab.url, http)
        for pool, token in tokens.items():
            try:
                await runners.verify(token, "firerunner-doctor", tries=1)
                await runners.delete_manager(token, "firerunner-doctor", tries=1)
                findings.append(Finding(Level.OK, f"pool {pool}", "GitLab takes the runner token"))
            except TokenRefused as error:
                findings.append(Finding(Level.FAIL, f"pool {pool}", error.message, error.remedy))
            except FireRunnerError as error:
                findings.append(Finding(Level.FAIL, gitlab.name, error.message, error.remedy))
                break
    return findings
