"""`python -m tests.chaos`: rounds of chaos on simulated clouds, and a table of what they came to."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import where_and_when
from tests.chaos.plans import CLOUDS, draw
from tests.chaos.table import summary
from tests.chaos.workers import progress, run_all


def main(argv: list[str] | None = None) -> int:
    """0 when every round kept what is promised, 1 when one did not."""
    wanted = _arguments(argv)
    clouds = tuple(name for name in wanted.clouds.split(",") if name)
    seeds = wanted.seed or range(wanted.from_seed, wanted.from_seed + wanted.rounds)
    for seed in wanted.seed or ():
        sys.stderr.write(f"{draw(seed, clouds)}\n")
    folder = wanted.keep or Path(tempfile.mkdtemp(prefix="gpujob-chaos-"))
    began = time.monotonic()
    results = progress(
        run_all(
            seeds,
            at_once=wanted.at_once,
            folder=folder.resolve(),
            clouds=clouds,
            is_blind=wanted.blind,
            keep_all=wanted.keep_all,
        ),
        len(seeds),
    )
    results.sort(key=lambda result: result.seed)
    print(summary(results, time.monotonic() - began, where_and_when()))
    failed = [result for result in results if result.problems]
    if failed:
        print(f"\nWhat was seen is in {folder}/seed-N/diagnosis.txt. Again: python -m tests.chaos --seed N")
    elif not wanted.keep:
        folder.rmdir()
    return 1 if failed else 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--from-seed", type=int, default=1, metavar="S", help="the first; default: %(default)s")
    parser.add_argument("--seed", type=int, action="append", metavar="S", help="only this one; may be repeated")
    parser.add_argument("--at-once", type=int, default=16, metavar="K", help="rounds; default: %(default)s")
    parser.add_argument("--clouds", default=",".join(CLOUDS), metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where failed rounds leave what was seen")
    parser.add_argument("--keep-all", action="store_true", help="also of rounds that went well")
    parser.add_argument("--blind", action="store_true", help="a controller without look-up by name and reaper")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
