"""What each act is called and does, for the page that asks whether it is really meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from firerunner.web.acts import CANCEL, DESTROY, RELEASE, HostAct


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of a confirmation."""

    verb: str
    effect: str
    hard: bool = False
    """Somebody's work may be lost."""


ASKED: Mapping[str, Asked] = {
    HostAct.CORDON: Asked(
        "Cordon", "No new machine is made there, until it is uncordoned. What is there goes on."
    ),
    HostAct.UNCORDON: Asked("Uncordon", "Machines are made there again."),
    HostAct.DRAIN: Asked(
        "Drain", "No new machine is made there, those without a job end now, jobs go on to their end."
    ),
    HostAct.BELIEVE: Asked(
        "Believe",
        "Machines that the host shows no more are taken for gone at once, however many they are; their jobs "
        "are reported to GitLab as runner_system_failure.",
        hard=True,
    ),
    DESTROY: Asked(
        "Destroy",
        "The machine is given up. If its runner has got a job, that is reported to GitLab as "
        "runner_system_failure; a job that it has not got yet goes to another machine.",
        hard=True,
    ),
    RELEASE: Asked(
        "Release",
        "The machine, which is held for a look, is removed, and what its failed job has left in it is lost.",
        hard=True,
    ),
    CANCEL: Asked(
        "Cancel",
        "GitLab is told to cancel the job. Its after_script still runs; then its machine is removed.",
        hard=True,
    ),
}
