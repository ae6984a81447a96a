"""Whether a round kept what is promised: nothing left running, nothing made twice, all of it booked, nothing lost.

Pure: facts in, problems out. What is promised is written down here a second time, from the documentation and not from
the code that has to keep it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

from orchestrator.records import Attempt
from tests.chaos import job
from tests.chaos.facts import Facts, MachineFact
from tests.chaos.plans import Plan

ROUNDING = Decimal(
    "0.0005"
)  # per machine: clouds count whole seconds, and begin and end them a moment earlier or later
LISTING_LAG_SECONDS = 60.0  # a list that lags longer than this may cost a second machine

# docs/recovery.md
EXIT_CODES = {
    "succeeded": 0,
    "failed": 1,
    "cancelled": 1,
    "lost": 1,
    "error": 1,
    "no_capacity": 10,
    "refused": 11,
    "timed_out": 12,
    "stopped_by_budget": 12,
}
KINDS = ("unfinished", "leak", "double", "ledger", "lost", "outcome", "bug", "harness")


@dataclass(frozen=True)
class Problem:
    """A promise that was not kept. `kind` is one of KINDS; `harness` is our own fault, and no promise's."""

    kind: str
    text: str


def judge(plan: Plan, facts: Facts) -> list[Problem]:
    """Everything that is wrong; [] for a round in which nothing is."""
    if not facts.run.is_over:
        return [Problem("unfinished", f"still in phase {facts.run.phase}"), *_leaks(facts)]
    problems = [*_leaks(facts), *_doubles(facts), *_ledger(facts), *_outcome(plan, facts)]
    problems += [*_logs(plan, facts), *_artifacts(plan, facts)]
    return problems + [Problem("bug", text) for text in facts.errors]


def difference(facts: Facts, machine: MachineFact) -> Decimal:
    """What gpujob booked for this machine, less the cloud's own bill for it."""
    mine = {(one.run_id, one.number) for one in _all_attempts(facts) if _is_of(one, machine)}
    booked = (Decimal(row["amount_usd"]) for row in facts.charges if (row["run_id"], row["attempt"]) in mine)
    return sum(booked, Decimal(0)) - machine.usd


def excess_explained(facts: Facts, machine: MachineFact) -> Decimal:
    """What may be booked too much, because nobody could see the machine's end when it came."""
    if machine.billed_until is None:
        return Decimal(0)
    gone = [one.gone_at for one in _all_attempts(facts) if _is_of(one, machine) and one.gone_at is not None]
    late = (max(gone, default=machine.billed_until) - machine.billed_until).total_seconds()
    return machine.usd_per_hour * Decimal(str(max(0.0, late))) / 3600


def lack_explained(facts: Facts, machine: MachineFact) -> Decimal:
    """What may be missing until the cloud's bill is there, because nobody saw the machine run when it began to."""
    if machine.billed_from is None:
        return Decimal(0)
    seen = [one.running_from for one in _all_attempts(facts) if _is_of(one, machine) and one.running_from is not None]
    late = (min(seen, default=machine.billed_from) - machine.billed_from).total_seconds()
    return machine.usd_per_hour * Decimal(str(max(0.0, late))) / 3600


def _leaks(facts: Facts) -> Iterator[Problem]:
    for machine in facts.machines:
        if machine.alive:
            yield Problem("leak", f"{machine.cloud} {machine.name} ({machine.id}) is {machine.status} and costs")
    yield from (Problem("leak", text) for text in facts.leftovers)
    if facts.reap_code not in (None, 0):
        yield Problem("leak", f"gpujob reap ended with {facts.reap_code}")
    if facts.run.is_over and facts.alive_before_reaping and not _lag_explains(facts):
        yield Problem("leak", f"only the reaper ended {', '.join(facts.alive_before_reaping)}")


def _doubles(facts: Facts) -> Iterator[Problem]:
    for name, count in Counter(machine.name for machine in facts.machines).items():
        if count > 1:
            yield Problem("double", f"{count} machines were made under the name {name}")
    if _lag_explains(facts):
        return
    used = {one.machine for one in _all_attempts(facts)}
    for machine in facts.machines:
        if machine.name not in used:
            yield Problem("double", f"{machine.name} was made, and its attempt went on with another machine")
    for first, second in pairwise(sorted(facts.machines, key=lambda machine: machine.created_at)):
        if first.ended_at is None or first.ended_at > second.created_at + timedelta(seconds=1):
            yield Problem("double", f"{second.name} was made while {first.name} was still there")


def _lag_explains(facts: Facts) -> bool:
    return any(fault.kind == "list_lag" and fault.seconds >= LISTING_LAG_SECONDS - 5 for fault in facts.struck)


def _ledger(facts: Facts) -> Iterator[Problem]:
    for machine in facts.machines:
        on_top = difference(facts, machine)
        more, less = excess_explained(facts, machine), lack_explained(facts, machine)
        if not -ROUNDING - less <= on_top <= ROUNDING + more:
            text = f"{machine.cloud} {machine.name} cost ${machine.usd:.6f}, the ledger has ${on_top:+.6f} on top"
            yield Problem("ledger", f"{text} (late sight explains ${more:.6f} more, or ${less:.6f} less)")
    known = {machine.id for machine in facts.machines}
    for one in _all_attempts(facts):
        if one.instance_id is not None and _plain_id(one) in known:
            continue
        booked = [row for row in facts.charges if (row["run_id"], row["attempt"]) == (one.run_id, one.number)]
        if amount := sum((Decimal(row["amount_usd"]) for row in booked), Decimal(0)):
            yield Problem("ledger", f"${amount:f} are booked for {one.machine}, which no cloud has made")


def _outcome(plan: Plan, facts: Facts) -> Iterator[Problem]:
    run = facts.run
    outcome = run.outcome.value if run.outcome else "none"
    own = "failed" if plan.job.exit_code else "succeeded"
    if outcome not in plan.expected | {own}:
        yield Problem("outcome", f"{outcome} instead of {own}: {run.error}")
    if outcome == own and run.exit_code != plan.job.exit_code:
        yield Problem("outcome", f"the job's exit code was {plan.job.exit_code}, and the run says {run.exit_code}")
    if facts.wait_code != EXIT_CODES.get(outcome):
        yield Problem("outcome", f"{outcome}, and gpujob wait ended with {facts.wait_code}")
    for stray in facts.strays:
        if not stray.is_over:
            yield Problem("unfinished", f"{stray.name} is still in phase {stray.phase}")


def _logs(plan: Plan, facts: Facts) -> Iterator[Problem]:
    """Every attempt's log has each line once and in order; that of a job that came to its end has all of them."""
    for one in facts.attempts:
        found = facts.logs.get(one.number, b"")
        begun = _begun(found)
        whole = job.log(plan.job.seed, plan.job.lines, begun)
        ended = one.outcome is not None and one.outcome.value in ("succeeded", "failed") and one.exit is not None
        if ended and found != whole:
            yield Problem("lost", f"attempt {one.number}: the log is not what the job wrote ({_where(found, whole)})")
        if not whole.startswith(found):
            yield Problem(
                "lost", f"attempt {one.number}: the log is no beginning of the job's ({_where(found, whole)})"
            )
        if begun and not plan.job.checkpointed:
            yield Problem("lost", f"attempt {one.number} went on from line {begun} without a checkpoint")


def _artifacts(plan: Plan, facts: Facts) -> Iterator[Problem]:
    if facts.run.outcome is None or facts.run.outcome.value != ("failed" if plan.job.exit_code else "succeeded"):
        return
    if not any(one.exit is not None for one in facts.attempts):
        return
    wanted = {f"out/{n}.bin": job.content(plan.job.seed, n, size) for n, size in enumerate(plan.job.files, 1)}
    for path in sorted(set(wanted) | set(facts.artifacts)):
        if wanted.get(path) != facts.artifacts.get(path):
            here, there = (len(files[path]) if path in files else None for files in (facts.artifacts, wanted))
            yield Problem("lost", f"artifact {path}: {here} bytes came back of {there}, or not the same ones")


def _all_attempts(facts: Facts) -> Iterator[Attempt]:
    yield from facts.attempts
    yield from facts.stray_attempts


def _is_of(attempt: Attempt, machine: MachineFact) -> bool:
    return attempt.provider == machine.cloud and attempt.instance_id is not None and _plain_id(attempt) == machine.id


def _plain_id(attempt: Attempt) -> str:
    """A provider may write a region before the cloud's own id."""
    return (attempt.instance_id or "").rpartition("/")[2]


def _begun(log: bytes) -> int:
    words = log.partition(b"\n")[0].split()
    return int(words[1]) if len(words) == 2 and words[0] == b"from" and words[1].isdigit() else 0


def _where(found: bytes, whole: bytes) -> str:
    same = next((i for i, (a, b) in enumerate(zip(found, whole, strict=False)) if a != b), min(len(found), len(whole)))
    return f"{len(found)} bytes of {len(whole)}, the same up to {same}: {found[same : same + 60]!r}"
