"""What stands between this computer and a running FireRunner, each item with its remedy."""

from __future__ import annotations

from collections.abc import Mapping

from firerunner.app import image_store
from firerunner.errors import FireRunnerError, TokenRefused
from firerunner.findings import Finding, Level
from firerunner.gitlab import RunnersClient, new_http
from firerunner.images import RunnerKind, missing_tools
from firerunner.machines.driver import Driver
from firerunner.machines.qemu.driver import QemuDriver
from firerunner.settings import GitLabSettings, Settings


async def examine_computer(driver: QemuDriver) -> list[Finding]:
    """Can machines be made and images be built here?"""
    findings = [
        Finding(Level.FAIL, "host", problem.what, problem.remedy) for problem in await driver.check()
    ] or [Finding(Level.OK, "host", "machines can be made here")]
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
    findings.append(Finding(Level.OK, "host", room))
    abilities = driver.abilities()
    if abilities.limiting_controllers:
        limits = ", ".join(abilities.limiting_controllers)
        findings.append(Finding(Level.OK, "host", f"control groups limit machines: {limits}"))
    else:
        findings.append(
            Finding(
                Level.WARN, "host", "no control group limits machines", "Run as root, or with Delegate=yes"
            )
        )
    return findings


async def examine_settings(settings: Settings, driver: QemuDriver) -> list[Finding]:
    """Are images there, is KVM real, does GitLab take the runner tokens?"""
    findings = never_made(settings, driver)
    for pool in settings.pools:
        try:
            image = image_store(settings).resolve(pool.image)
        except FireRunnerError as error:
            findings.append(Finding(Level.FAIL, f"pool {pool.name}", error.message, error.remedy))
            continue
        runner = image.manifest.runner
        level = Level.OK if runner.kind is RunnerKind.OFFICIAL else Level.WARN
        findings.append(
            Finding(level, f"pool {pool.name}", f"image with {runner.kind} gitlab-runner {runner.version}")
        )
        accelerator = await driver.accelerator(image.files)
        if accelerator is not None:
            findings.append(_accelerator(accelerator.kind, accelerator.reason))
    return list(dict.fromkeys(findings)) + await _tokens(settings)


def never_made(settings: Settings, driver: Driver) -> list[Finding]:
    """The pools of whose size and egress no machine could be made; they do not ask GitLab."""
    refusals = {
        pool.name: driver.refusal(pool.resources, pool.outside(settings.gitlab_of(pool).destination))
        for pool in settings.pools
    }
    return [
        Finding(Level.FAIL, f"pool {name}", f"no machine can be made: {why}", "It takes no job until then")
        for name, why in refusals.items()
        if why is not None
    ]


def _accelerator(name: str, reason: str) -> Finding:
    if name == "kvm":
        return Finding(Level.OK, "host", "a guest boots with KVM")
    return Finding(
        Level.WARN, "host", f"guests are emulated, 10 times slower: {reason}", "Use a host with KVM"
    )


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
