"""What many rounds came to, as text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from tests.chaos.judging import KINDS
from tests.chaos.rounds import Result


def summary(results: Sequence[Result], seconds: float, where: str) -> str:
    """A Markdown table, and below it the seeds that failed with what was wrong."""
    rows = [
        ("rounds", f"{len(results)}, seeds {_range(result.seed for result in results)}, in {seconds:.0f} s"),
        ("by cloud", _counted(Counter(result.cloud for result in results))),
        ("kills and cuts", _counted(_added(result.strikes for result in results))),
        ("faults that struck", _counted(_added(result.faults for result in results))),
        ("outcomes", _counted(Counter(result.outcome for result in results))),
        ("machines", f"{sum(result.machines for result in results)}, {_strays(results)} ended by the reaper"),
        *((name, str(_problems(results)[kind])) for kind, name in _NAMES.items()),
        ("the clouds' own bills", _usd(sum((result.billed for result in results), Decimal(0)))),
        ("gpujob's ledger", _usd(sum((result.booked for result in results), Decimal(0)))),
        ("of it: ends seen late", _usd(sum((result.late for result in results), Decimal(0)))),
        ("longest round", f"{max((result.seconds for result in results), default=0):.0f} s"),
        ("failed rounds", str(sum(bool(result.problems) for result in results))),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), "", where]
    return "\n".join([*lines, *failures(results)])


def failures(results: Iterable[Result]) -> list[str]:
    return [f"seed {result.seed}: {problem.kind}: {problem.text}" for result in results for problem in result.problems]


_NAMES = {
    "leak": "left running or left over",
    "double": "machines made twice",
    "ledger": "machines that are not booked as billed",
    "lost": "logs and artifacts not byte for byte",
    "unfinished": "runs without an end",
    "outcome": "wrong outcomes or exit codes",
    "bug": "errors of gpujob itself",
    "harness": "rounds that could not be carried out",
}
assert set(_NAMES) == set(KINDS)


def _problems(results: Iterable[Result]) -> Counter[str]:
    return Counter(problem.kind for result in results for problem in result.problems)


def _strays(results: Iterable[Result]) -> int:
    return sum(result.strays for result in results)


def _added(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _range(seeds: Iterable[int]) -> str:
    found = sorted(seeds)
    return f"{found[0]} to {found[-1]}" if found else "none"


def _usd(amount: Decimal) -> str:
    return f"${amount:.4f}"
