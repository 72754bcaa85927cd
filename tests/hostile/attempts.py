"""Pure: what is tried, which results are harmless, and what a hostile job's trace says came of it."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

NO_WORD: Final = "no word"
"""The result of a try that was not reported."""

_TRY = re.compile(r"^TRY (?P<name>[a-z0-9-]+) (?P<result>.*?)\s*$", re.MULTILINE)
_NOT_TAKEN: Final = ("closed",)
_NOT_THERE: Final = ("404",)
_FORBIDDEN: Final = ("403", "429")
_BOTH: Final = frozenset({"relay", "uplink"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that a hostile job tries."""

    name: str
    harmless: tuple[str, ...]
    """Regular expressions for the whole result."""
    modes: frozenset[str] = _BOTH
    alone: bool = False
    """It disturbs the others, and comes after them."""

    def is_harmless(self, result: str) -> bool:
        """Whether the result shows that nothing was reached."""
        return any(re.fullmatch(pattern, result) for pattern in self.harmless)


def _all(names: str, harmless: tuple[str, ...], *modes: str) -> tuple[Attempt, ...]:
    return tuple(Attempt(name, harmless, frozenset(modes) or _BOTH) for name in names.split())


TRIED: Final = (
    *_all("control-gate", ("200",)),
    *_all("control-gitlab", ("[2345]..",)),
    *_all("control-internet control-network", ("canary-far-[a-z]+",), "uplink"),
    *_all(
        "loopback loopback-by-gateway second-loopback second-loopback-by-gateway gate-port-by-gateway "
        "web-port-by-gateway gitlab-port-by-gateway lan lan-by-gateway lan-gate-port lan-web-port "
        "lan-usual-port neighbour-next neighbour-egress metadata metadata-azure metadata-alibaba "
        "metadata-ipv6 elsewhere resolver-usual",
        _NOT_TAKEN,
    ),
    *_all(
        "host-of-network network-other-port domain-loopback domain-host domain-metadata domain-azure",
        _NOT_TAKEN,
        "uplink",
    ),
    *_all("datagram-loopback datagram-lan", ("sent",)),
    *_all("icmp-gateway icmp-lan ipv6-all-routers resolve-others", ("none",)),
    *_all(
        "gate-root gate-metrics gate-webhook gate-ready gate-openapi gate-gitlab-api gate-verify "
        "gate-reset-token gate-forget-runner gate-absolute path-dots path-dots-hidden path-dots-to-other "
        "path-dots-hidden-to-other path-slashes path-slashes-ask path-line-end path-job-dots",
        _NOT_THERE,
    ),
    *_all("gate-connect gate-websocket", ("40[0345]", "closed")),
    *_all(
        "path-slash-hidden other-ask other-booted other-ended other-trace other-update other-artifacts "
        "other-upload cross-trace cross-update cross-artifacts cross-upload lie-no-token lie-wrong-token "
        "lie-credential-as-token lie-ask-with-token gitlab-cross-trace gitlab-ask",
        _FORBIDDEN,
    ),
    *_all("lie-two-tokens lie-token-in-query lie-ask-not-json lie-two-lengths", ("400", "403", "429")),
    *_all("lie-chunked-too", ("400", "403", "429", "closed")),
    *_all("lie-too-large", ("413", "429")),
    Attempt("neighbour-by-own-address", _NOT_TAKEN, alone=True),
    Attempt("loopback-by-route", _NOT_TAKEN, alone=True),
    Attempt("flood-own", (r"((200|429|closed):\d+,?)+",), alone=True),
    Attempt("flood-made-up", (r"((403|429|closed):\d+,?)+",), alone=True),
    Attempt("flood-console", (r"bytes:\d+",), alone=True),
)

LAST_WORDS: Final = (
    *_all("flood-trace", (r"bytes:\d+",)),
    *_all("second-ask", ("204", NO_WORD)),
    *_all("second-boot", ("410", NO_WORD)),
    *_all("early-end", ("204", NO_WORD)),
    *_all("after-end", ("403", NO_WORD, "closed")),
)
"""What ends a job or its machine: most of it can hardly be told any more."""

FROM_OUTSIDE: Final = (
    *_all("outside-no-credential", ("400", "403")),
    *_all("outside-made-up-credential outside-other-machine outside-job-call", ("403",)),
    *_all("outside-flood", (r"200:\d+,429:\d+",)),
    *_all("outside-flood-made-up", (r"(403:\d+,)?429:\d+",)),
    *_all("outside-trace-too-large", ("413", "cut")),
    *_all("outside-ask", ("204",)),
    *_all("outside-ask-after-end outside-booted-after-end outside-ended-after-end", ("403",)),
    *_all("outside-job-call-after-end", ("403",)),
)
"""What is done on the host with the credential that a job has given away, in this order."""

_KNOWN: Final = {each.name: each for each in (*TRIED, *LAST_WORDS, *FROM_OUTSIDE)}


def orders(mode: str, seed: int, only: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """What to try, in an order of chance; those that come alone are apart."""
    chance = random.Random(f"{seed} {mode}")
    ours = [each for each in TRIED if mode in each.modes and (not only or each.name in only)]
    chance.shuffle(ours)
    return [each.name for each in ours if not each.alone], [each.name for each in ours if each.alone]


def results(trace: str) -> dict[str, str]:
    """What the trace says about each try."""
    return {found["name"]: found["result"] for found in _TRY.finditer(trace.replace("\r", ""))}


def reached(found: Mapping[str, str], mode: str) -> list[str]:
    """The attempts that got somewhere. `resolve-others` may, where the internet's names are given out."""
    resolves = {"resolve-others"} if mode == "uplink" else set()
    return [
        name
        for name, result in found.items()
        if name not in resolves and result != NO_WORD and not _KNOWN[name].is_harmless(result)
    ]


def unfinished(found: Mapping[str, str]) -> list[str]:
    """The attempts of which nothing is known, and should be."""
    return [
        name for name, result in found.items() if result == NO_WORD and not _KNOWN[name].is_harmless(result)
    ]
