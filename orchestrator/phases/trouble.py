"""What becomes of a run whose visit failed through nobody's fault but ours: a bug, or no room on this computer.

A machine is never stranded: its attempt is ended after a few bugs in a row, and teardown never gives up. A lack of room
is waited for, visibly, for as long as the run's own limits allow.
"""

from __future__ import annotations

import errno

from orchestrator.phases.stopping import is_used_up, reason_to_stop, stopped
from orchestrator.phases.visit import Next, Visit
from orchestrator.records import AttemptOutcome, Outcome, Phase

BUG_LIMIT = 5  # visits in a row that may end in an error of ours before the attempt is ended
ROOM_SECONDS = 10.0

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def after(visit: Visit, error: Exception) -> Next:
    """Where a run goes whose phase raised this."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return _wait_for_room(visit, error)
    return _after_a_bug(visit, error)


def forget(visit: Visit) -> None:
    """A visit went well: what was before it does not count any more."""
    for note in ("bugs", "no_room"):
        if visit.run.notes.pop(note, None) is not None:
            visit.changed = True


def _wait_for_room(visit: Visit, error: OSError) -> Next:
    if not visit.run.notes.get("no_room"):
        visit.run.notes["no_room"] = True
        visit.note("warning", f"no room on this computer, the run waits for it: {error}")
    if visit.run.phase is Phase.WATCH and (reason := reason_to_stop(visit)) is not None:
        visit.close_attempt(*stopped(reason))
        return _without_the_rest(visit)
    if visit.run.phase is Phase.COLLECT and (visit.run.cancel_requested_at is not None or is_used_up(visit)):
        return _without_the_rest(visit)
    return visit.stay(ROOM_SECONDS)


def _without_the_rest(visit: Visit) -> Next:
    """To the machine's end; what it still has is lost, and that is said."""
    visit.run.artifacts_complete = False
    return Next(Phase.TEARDOWN)


def _after_a_bug(visit: Visit, error: Exception) -> Next:
    run = visit.run
    bugs = int(run.notes.get("bugs", 0)) + 1
    run.notes["bugs"] = bugs
    visit.note("error", f"internal error in {run.phase}: {type(error).__name__}: {error}")
    if bugs < BUG_LIMIT:
        return visit.stay(float(bugs))
    text = f"internal error in phase {run.phase}: {error}"
    if run.phase is Phase.TEARDOWN:
        run.possibly_billing = True
        return visit.stay(60.0)
    if run.phase is Phase.SETTLE:
        run.outcome, run.error = run.outcome or Outcome.ERROR, run.error or text
        run.ended_at = run.ended_at or visit.now
        return Next(Phase.DONE)
    run.notes.pop("bugs")
    if visit.attempt is not None:
        visit.close_attempt(AttemptOutcome.ERROR, text)
    if visit.attempt is None or run.phase is Phase.QUOTE:
        run.notes["verdict"] = {"outcome": Outcome.ERROR.value, "error": text}
        return Next(Phase.SETTLE)
    if run.phase is Phase.WATCH:
        return Next(Phase.COLLECT)
    return _without_the_rest(visit) if run.phase is Phase.COLLECT else Next(Phase.TEARDOWN)
