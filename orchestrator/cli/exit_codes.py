"""What an exit code says, and which one a run ends with. The one place for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.records import Run

DONE = 0
JOB_FAILED = 1
USAGE = 2
INCOMPLETE = 3
NOTHING_TO_RENT = 10
REFUSED = 11
BUDGET = 12
POSSIBLY_BILLING = 13
INTERRUPTED = 130
BROKEN_PIPE = 141

MEANINGS = {
    DONE: "done",
    JOB_FAILED: "the job failed, was cancelled or got lost; or gpujob could not do it",
    USAGE: "wrong usage, or a train.yaml that says something impossible",
    INCOMPLETE: "the job succeeded, but some of its artifacts or results are missing",
    NOTHING_TO_RENT: "nothing to rent: no offer fits, or all are taken",
    REFUSED: "credentials, funds or quota",
    BUDGET: "stopped by limits.max_cost, limits.max_duration or a monthly budget",
    POSSIBLY_BILLING: "a machine possibly still bills",
    INTERRUPTED: "interrupted with Ctrl-C; a run goes on",
}

OF_A_RUN = (DONE, JOB_FAILED, INCOMPLETE, NOTHING_TO_RENT, REFUSED, BUDGET, POSSIBLY_BILLING, INTERRUPTED)

_OF_OUTCOMES = {
    "succeeded": DONE,
    "failed": JOB_FAILED,
    "cancelled": JOB_FAILED,
    "timed_out": BUDGET,
    "stopped_by_budget": BUDGET,
    "no_capacity": NOTHING_TO_RENT,
    "refused": REFUSED,
    "lost": JOB_FAILED,
    "error": JOB_FAILED,
    "reaped": DONE,
}


def exit_code(run: Run) -> int:
    """What a program is told about a run that is over. A machine that may still bill outweighs everything else."""
    if run.possibly_billing:
        return POSSIBLY_BILLING
    if run.outcome is None:
        return JOB_FAILED
    if run.outcome.value == "succeeded" and run.artifacts_complete is False:
        return INCOMPLETE
    return _OF_OUTCOMES[run.outcome.value]
