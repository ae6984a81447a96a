"""What the store knows of earlier runs of a job, as estimates want it. Reads; decides nothing about time or money."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from orchestrator import costs
from orchestrator.estimates import EXPECTED_HOURS, Estimates, Expectation, Hardware, Past, Speeds, hardware, no_speeds
from orchestrator.records import Attempt, Run
from orchestrator.reports import words
from orchestrator.store.errors import StoreBroken, StoreTooNew

if TYPE_CHECKING:
    from jobs.spec import Spec
    from orchestrator.store.store import Store

MOST = 20  # runs that an estimate is made from, the newest
AMONG = 200  # runs of that name that are looked at, however they ended
_NONSENSE = (AttributeError, KeyError, TypeError, ValueError)


def estimates(
    store: Store,
    spec: Spec,
    *,
    digest: str | None = None,
    expected_hours: Decimal = EXPECTED_HOURS,
    speeds: Speeds = no_speeds,
) -> Estimates:
    """What is known of a job now."""
    past = read(store, spec.name, spec.project)
    return Estimates(spec, past, digest=digest, expected_hours=expected_hours, speeds=speeds)


def measured_speeds(store: Store) -> Speeds:
    """How fast GPUs are beside each other, by the benchmarks of this store; read when somebody asks for the first."""

    @cache
    def read() -> Speeds:
        from orchestrator.benchmarks import speeds

        return speeds.relative(store.benchmarks.results())

    def speed(gpu: str, count: int) -> float | None:
        return read()(gpu, count)

    return speed


def expectation(store: Store, spec: Spec, *, digest: str | None = None) -> Expectation | None:
    """What earlier runs of a job took and cost; None when there were none. Asks no cloud."""
    past = read(store, spec.name, spec.project)
    if not past:
        return None
    return Estimates(spec, past, digest=digest).before(store.spent([run.run_id for run in past]))


def read(store: Store, name: str, project: str) -> list[Past]:
    """Earlier runs that succeeded, newest first. Rows that cannot be read are as good as none: they were of use only.

    A run that a checkpoint carried over several machines counts with the time of all its attempts, when they were on
    one kind of hardware; otherwise it says nothing, and is left out.
    """
    try:
        found = store.past.succeeded(name=name, project=project, limit=MOST, among=AMONG)
    except (StoreBroken, StoreTooNew):
        return []
    return [past for run, attempts in found if (past := _past(run, attempts)) is not None]


def _past(run: Run, attempts: Sequence[Attempt]) -> Past | None:
    last = attempts[-1]
    if last.started_at is None or last.exited_at is None:
        return None
    try:
        worked = [one for one in attempts if one.started_at is not None] if run.spec.get("checkpoint") else [last]
        kinds = {_hardware(run, one) for one in worked}
        if len(kinds) > 1:
            return None
        created = last.billing_from or last.created_at
        before = _seconds(created, last.started_at)
        return Past(
            run_id=run.id,
            hardware=kinds.pop(),
            provider=last.provider,
            is_simulated=words.is_simulated(last),
            job_seconds=sum(_seconds(one.started_at, costs.ended(one)) for one in worked),
            overhead_seconds=before + _seconds(last.exited_at, last.gone_at),
            boot_seconds=None if last.running_from is None else min(before, _seconds(created, last.running_from)),
            fetched_bytes=int(run.notes.get("fetched_bytes") or 0),
            command=str(run.spec.get("run")),
            env={str(name): str(value) for name, value in (run.spec.get("env") or {}).items()},
            digest=run.notes.get("bundle_digest"),
        )
    except _NONSENSE:  # another version wrote it
        return None


def _hardware(run: Run, attempt: Attempt) -> Hardware:
    offer = attempt.offer
    with_gpu = bool((run.spec.get("resources") or {}).get("gpu"))
    count, vcpus = int(offer.get("gpu_count") or 0), float(offer.get("vcpus") or 0)
    return hardware(offer.get("gpu"), count, attempt.provider, vcpus, with_gpu=with_gpu)


def _seconds(since: datetime | None, until: datetime | None) -> float:
    return max(0.0, (until - since).total_seconds()) if since is not None and until is not None else 0.0
