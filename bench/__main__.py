"""`python -m bench [NAME]...`: measure, and print Markdown tables. Without a name: all of them."""

from __future__ import annotations

import sys
from importlib import import_module

from bench.measure import where_and_when

ALL = ("start", "first_line", "teardown", "prices", "cost", "store", "ship", "change_points", "controller", "cloud")


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in ALL]:
        print(f"no such measurement: {', '.join(unknown)} (there are {', '.join(ALL)})", file=sys.stderr)
        return 2
    for name in names or ALL:
        print(import_module(f"bench.{name}").report(), flush=True)
    print(where_and_when())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
