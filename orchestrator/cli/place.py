"""The machine that a run is on now, and how it is reached. Knows the store's notes, no cloud."""

from __future__ import annotations

from orchestrator.cli import exit_codes
from orchestrator.cli.errors import Stop
from orchestrator.cli.session import Session
from orchestrator.records import Attempt, Run
from orchestrator.world import access_from_json
from providers.base import Access


def machine_of(session: Session, run: Run) -> tuple[Attempt, Access]:
    """The current attempt and the way to its machine. Says why when there is none."""
    if run.is_over:
        raise Stop(f"run {run.id} is over, its machine is gone; see `gpujob logs {run.id}`", exit_codes.JOB_FAILED)
    attempts = session.store.attempts(run.id)
    if not attempts or "access" not in attempts[-1].notes:
        raise Stop(f"run {run.id} is in phase {run.phase.value}: it has no machine to reach yet", exit_codes.JOB_FAILED)
    if attempts[-1].gone_at is not None:
        raise Stop(f"the machine of run {run.id} is gone; it is in phase {run.phase.value}", exit_codes.JOB_FAILED)
    return attempts[-1], access_from_json(attempts[-1].notes["access"])


def working_directory(access: Access) -> str:
    """Where the job's files are on the machine (designs/0002)."""
    return f"{access.directory.rstrip('/')}/shared/work"
