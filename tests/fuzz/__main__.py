"""`make fuzz N=100000 SEED=7`: N hostile requests to the real service's doors while honest work goes on.

The last line of standard output is one JSON object; the exit status is 0 only if nothing was obeyed, broken,
lost or leaked. A finding names its number: `--only NUMBER` with the same seed sends that one request again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Image, Store
from tests.fuzz.making import made
from tests.fuzz.run import Report, run
from tests.fuzz.storm import Tally, send
from tests.fuzz.world import world


def main() -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="hostile requests")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", type=int, help="send the one of this number, and show it")
    given = parser.parse_args()
    return asyncio.run(_main(given.n, given.seed, given.only))


async def _main(n: int, seed: int, only: int | None) -> int:
    image = await build(demo_recipe(None), Store(cache_dir() / "images"))
    if only is not None:
        return await _replay(image, seed, only)
    report: Report = await run(image, n, seed, _say)
    print(json.dumps(report.as_told()))
    return 0 if report.is_clean else 1


async def _replay(image: Image, seed: int, index: int) -> int:
    async with world(image) as it:
        item, tally = made(seed, index, it.facts), Tally()
        await send(index, item, it.facts, {}, tally)
        _say(f"{item.kind}: {b''.join(item.pieces)!r}")
        _say(it.service.said()[-2000:])
        print(
            json.dumps(
                {
                    "harness": "fuzz",
                    "seed": seed,
                    "only": index,
                    "answers": tally.told_answers(),
                    "what": tally.findings,
                }
            )
        )
        return 1 if tally.findings else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
