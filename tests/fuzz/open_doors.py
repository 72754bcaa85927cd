"""`firerunner` with a safeguard that is switched off, to see that the fuzzer would see it: the first argument
says which one."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from firerunner.cli.main import main
from firerunner.gate import checks, credentials
from firerunner.intake.proofs import Proofs, Standing
from firerunner.web import access


def hooks() -> None:
    """Whoever has not shown that a hook is GitLab's is taken for GitLab."""
    by_headers = Proofs.by_headers

    def anybody(self: Proofs, headers: Any) -> Standing:
        return replace(by_headers(self, headers), by_secret=("gitlab",), waiting=())

    Proofs.by_headers = anybody  # type: ignore[method-assign]


def gate() -> None:
    """Every secret is a machine's credential, and its job's token."""
    for module in (credentials, checks):  # each has a name of its own for it
        vars(module)["same_digest"] = lambda said, known: True


def api() -> None:
    """Every token is an operator's."""
    access._right = lambda token, rules: "operate"


if __name__ == "__main__":
    {"hooks": hooks, "gate": gate, "api": api}[sys.argv.pop(1)]()
    main()
