"""From a job that is over to nothing left and everything accounted for: collect, teardown, settle.

A machine is gone when its cloud says "not found", and not before. A run whose cloud cannot be asked stays in teardown,
marked as possibly still billing, and is tried again until it is known.
"""

from __future__ import annotations

import shutil
from datetime import timedelta

from jobs import artifacts
from jobs.machine import AgentError
from jobs.streams import AttemptFiles
from jobs.transport.base import TransportError
from orchestrator import ledger
from orchestrator.phases import prices
from orchestrator.phases.copying import is_waited_for_no_more, while_it_is_waited_for
from orchestrator.phases.renting import LISTING_LAG, look_up, note_unclear, write_down
from orchestrator.phases.running import fate, pull_checkpoint, read_metrics, values_to_hide
from orchestrator.phases.visit import Next, Visit
from orchestrator.records import AttemptOutcome, Json, Outcome, Phase
from orchestrator.reports import words
from orchestrator.reports.html import write_report
from orchestrator.same_account import AnotherAccount
from orchestrator.settlement import is_final, machine_of
from orchestrator.store.errors import StoreError
from providers.errors import NotFound, ProviderError

COLLECT_LIMIT = timedelta(minutes=10)  # without any progress
LONGEST_NAME = 300  # of one in an event
MOST_TOLD = 20  # of what is missing, an event each
BILLING_DOUBT = timedelta(minutes=5)  # after that a run says that it may still be billing

_MACHINE_IS_GONE = (AttemptOutcome.HOST_LOST, AttemptOutcome.PREEMPTED)
_TRY_AGAIN = (
    AttemptOutcome.PREEMPTED,
    AttemptOutcome.HOST_LOST,
    AttemptOutcome.BAD_HOST,
    AttemptOutcome.NEVER_BOOTED,
)
_EXHAUSTED = {
    AttemptOutcome.PREEMPTED: Outcome.LOST,
    AttemptOutcome.HOST_LOST: Outcome.LOST,
    AttemptOutcome.BAD_HOST: Outcome.NO_CAPACITY,
    AttemptOutcome.NEVER_BOOTED: Outcome.NO_CAPACITY,
    AttemptOutcome.FAILED: Outcome.FAILED,
}


def collect(visit: Visit) -> Next:
    """The rest of the streams, the artifacts, the last checkpoint; also of a job that failed."""
    try:
        _drain(visit)
        with while_it_is_waited_for(visit):
            _pull_artifacts(visit)
            if visit.spec.checkpoint is not None and visit.current.outcome is not AttemptOutcome.SUCCEEDED:
                pull_checkpoint(visit, visit.spec.checkpoint.path, visit.folder.checkpoints)
    except (TransportError, AgentError) as error:
        return _collect_again(visit, error)
    return Next(Phase.TEARDOWN)


def teardown(visit: Visit) -> Next:
    """End the machine and look until its cloud says that it is not there."""
    attempt = visit.current
    visit.world.forget_machine(attempt.machine)
    visit.world.forget_pulse(attempt.machine)
    if attempt.gone_at is not None:
        return Next(Phase.SETTLE)
    try:
        if attempt.instance_id is None and not _find_by_name(visit):
            return _never_made(visit)
        _terminate_once_in_a_while(visit)
        _look(visit)
    except NotFound:
        return _gone(visit)
    except AnotherAccount as error:
        return _still_there(visit, str(error), doubt=timedelta())
    except ProviderError as error:
        return _still_there(visit, f"{attempt.provider}: {error}")
    return _still_there(visit, "its cloud still shows it")


def settle(visit: Visit) -> Next:
    """Close the attempt's account; then the run goes into its next attempt, or is over."""
    if visit.attempt is not None and visit.attempt.billing_from is not None:
        _settle_attempt(visit)
    if (verdict := _verdict(visit)) is None:
        visit.note("retry", f"trying again: attempt {visit.current.number + 1} of {visit.spec.retry.attempts}")
        return Next(Phase.QUOTE)
    return _finish(visit, verdict)


def _drain(visit: Visit) -> None:
    """What the watch has not seen. A job that could not be stopped may go on to talk: not for ever is it heard."""
    files = AttemptFiles(visit.attempt_folder.root)
    while True:
        offsets = files.offsets()
        look = visit.machine().visit(offsets)
        files.append(offsets, look.new, secrets=values_to_hide(visit), final=look.drained)
        if look.drained:
            break
        if visit.since("draining") > COLLECT_LIMIT or is_waited_for_no_more(visit):
            visit.note("warning", "the log could not be copied whole: it goes on and on")
            break
    read_metrics(visit, final=True)


def _pull_artifacts(visit: Visit) -> None:
    run, spec, folder = visit.run, visit.spec, visit.folder
    if not spec.artifacts:
        run.artifacts_complete = True
        return
    pulled = artifacts.pull(visit.machine(), spec.artifacts, folder.artifacts, folder.manifest, final=True)
    visit.fetched(pulled.bytes)
    run.artifacts_complete = pulled.complete and not pulled.unmatched
    visit.note("artifacts", f"{len(pulled.files)} artifacts, {pulled.bytes} bytes", complete=run.artifacts_complete)
    for pattern in pulled.unmatched:
        visit.note("warning", f"artifacts: nothing matches {pattern}")
    for path, why in pulled.missing[:MOST_TOLD]:
        visit.note("warning", f"artifact {path[:LONGEST_NAME]} is missing: {why}")
    if len(pulled.missing) > MOST_TOLD:
        more = len(pulled.missing) - MOST_TOLD
        visit.note("warning", f"{more} more artifacts are missing; {folder.manifest} lists all of them")


def _collect_again(visit: Visit, error: Exception) -> Next:
    """Try again while something comes, and the run's limits allow it; a machine that is lost is tried once."""
    visit.world.forget_machine(visit.current.machine)
    here = sum(path.stat().st_size for path in visit.folder.root.rglob("*") if path.is_file())
    if here > visit.current.notes.get("collected_bytes", -1):
        visit.remember(collected_bytes=here)
        visit.clear("collecting")
    failing_for = visit.since("collecting")
    gone = fate(visit)
    is_lost = visit.current.exit is None or visit.current.outcome in _MACHINE_IS_GONE or gone is not None
    if gone is not None and _is_worth_another(visit):
        attempt = visit.current
        attempt.outcome, attempt.error = gone, "the machine went away before everything was brought home"
        visit.note("attempt", f"attempt {attempt.number} {gone.value.replace('_', ' ')}: {attempt.error}")
    if is_lost or failing_for > COLLECT_LIMIT or is_waited_for_no_more(visit):
        read_metrics(visit, final=True)
        visit.run.artifacts_complete = not visit.spec.artifacts
        visit.note("warning", f"artifacts could not be collected: {error}")
        return Next(Phase.TEARDOWN)
    if not failing_for:
        visit.note("warning", f"collecting failed, trying again: {error}")
    return visit.stay(2.0)


def _is_worth_another(visit: Visit) -> bool:
    """Whether a job that succeeded is done again, because what it made is lost."""
    attempt, run = visit.current, visit.run
    more = attempt.number < visit.spec.retry.attempts and run.cancel_requested_at is None
    return more and attempt.outcome is AttemptOutcome.SUCCEEDED


def _find_by_name(visit: Visit) -> bool:
    """A create that never got a clear answer may have made a machine all the same."""
    found = look_up(visit)
    if found is not None:
        write_down(visit, found)
    return found is not None


def _never_made(visit: Visit) -> Next:
    """The name is not in the list; a list may lag, so it is believed only after a while."""
    if visit.since("not in the list at the end") < LISTING_LAG and not visit.provider.traits.owned:
        return visit.stay(5.0)
    visit.run.possibly_billing = False
    note_unclear(visit)
    visit.note("machine", f"no machine named {visit.current.machine} exists")
    return Next(Phase.SETTLE)


def _terminate_once_in_a_while(visit: Visit) -> None:
    attempt = visit.current
    assert attempt.instance_id is not None
    again = timedelta(seconds=visit.provider.traits.terminate_seconds)
    if attempt.terminate_asked_at is not None and visit.since("terminate asked") < again:
        return
    if attempt.running_from is None:
        _look(visit)  # whether it ran, and was billed for it, nobody says any more when it ends
    visit.provider.terminate(attempt.instance_id)
    attempt.terminate_asked_at = attempt.terminate_asked_at or visit.now
    visit.clear("terminate asked")
    visit.since("terminate asked")


def _look(visit: Visit) -> None:
    """Whether it is there. What was found by its security group alone may turn out to be a machine, with its price."""
    instance, attempt = visit.instance(), visit.current
    if instance.meters and attempt.billing_from is None and not attempt.notes.get("paid_by_its_run"):
        write_down(visit, instance)


def _gone(visit: Visit) -> Next:
    visit.current.gone_at = visit.now
    visit.run.possibly_billing = False
    visit.note("machine", f"{visit.current.machine} is gone: {visit.current.provider} says not found")
    return Next(Phase.SETTLE)


def _still_there(visit: Visit, why: str, *, doubt: timedelta = BILLING_DOUBT) -> Next:
    """`doubt` is for how long nothing is said: most of what goes wrong here passes by itself."""
    if visit.since("still there") >= doubt and not visit.run.possibly_billing:
        visit.run.possibly_billing = True
        visit.note(
            "warning",
            f"POSSIBLY STILL BILLING: {visit.current.provider} machine {visit.current.machine} "
            f"({visit.current.instance_id or 'its id is not known'}) at {_worst_rate(visit)} per hour: {why}. "
            f"It is asked again until it is known. Look yourself: {visit.provider.traits.console}",
        )
    return visit.stay(min(60.0, 0.05 + visit.waited.total_seconds() / 4))


def _worst_rate(visit: Visit) -> str:
    """What an hour of the machine costs at most: all of its meters; before they are known, what was offered."""
    attempt = visit.current
    known = ledger.hourly(ledger.meters_from_json(attempt.meters))
    return ledger.usd(max(known, attempt.usd_per_hour))


def _settle_attempt(visit: Visit) -> None:
    """Book the rest of the estimate, then the difference to the cloud's own figure where it is final already."""
    attempt = visit.current
    booked = visit.world.store.charges(run_id=visit.run.id)
    previous = [row for row in booked if row.attempt == attempt.number]
    if ledger.is_settled(previous):
        return
    prices.ask(visit)
    rows = ledger.estimate_rows(attempt, visit.now, previous)
    try:
        charges = visit.provider.charges(machine_of(visit.run, attempt), attempt.created_at)
    except Exception as error:  # also a bug of the provider: the estimate stands
        charges = []
        visit.note("warning", f"{attempt.provider} did not say what it billed: {type(error).__name__}: {error}")
    rows += ledger.settlement_rows(attempt, charges, [*previous, *rows], visit.now)
    if not is_final(charges, [*previous, *rows]):
        attempt.settle_at = visit.now + timedelta(seconds=visit.provider.traits.bill_seconds)
    visit.charges += rows
    visit.run.notes["spent_before"] = str(ledger.total([*booked, *rows]))
    visit.changed = True


def _verdict(visit: Visit) -> Json | None:
    """How the run ended; None when it is to be tried again."""
    if (given_up := visit.run.notes.get("verdict")) is not None:
        return dict(given_up)
    attempt = visit.current
    outcome = attempt.outcome or AttemptOutcome.ERROR
    job_failed = outcome is AttemptOutcome.FAILED and attempt.exit is not None
    if outcome not in _TRY_AGAIN and not (job_failed and visit.spec.retry.on_failure):
        return {"outcome": outcome.value, "error": attempt.error}
    if visit.run.cancel_requested_at is not None:
        return {"outcome": Outcome.CANCELLED.value, "error": "cancelled"}
    if attempt.number >= visit.spec.retry.attempts:
        error = f"{attempt.error} (attempt {attempt.number} of {visit.spec.retry.attempts})"
        return {"outcome": _EXHAUSTED[outcome].value, "error": error}
    return None


def _report(visit: Visit) -> None:
    """A picture of the run; one that cannot be drawn is said, and holds nothing up."""
    try:
        write_report(visit.world.store, visit.world.home, visit.run.id, now=visit.now)
    except Exception as error:
        visit.note("warning", f"the report could not be written: {type(error).__name__}: {error}")


def _keep_results(visit: Visit) -> None:
    """Of a benchmark: what it measured, and what that says of the results before. It is said, and holds nothing up."""
    if "sweep" not in visit.run.notes or visit.current.outcome is not AttemptOutcome.SUCCEEDED:
        return
    try:
        from orchestrator.benchmarks import keeping

        simulated = visit.provider.traits.simulated
        for text in keeping.keep(visit.world.store, visit.run, visit.current, visit.folder, simulated, visit.now):
            visit.note("benchmark", text)
    except StoreError:
        raise
    except Exception as error:
        visit.note("warning", f"the results could not be kept: {type(error).__name__}: {error}")


def _finish(visit: Visit, verdict: Json) -> Next:
    run = visit.run
    if run.outcome is None:
        if visit.attempt is not None:
            _keep_results(visit)
        run.outcome = Outcome(verdict["outcome"])
        run.error = verdict["error"]
        run.ended_at = visit.now
        if visit.attempt is not None and visit.attempt.exit is not None:
            code = visit.attempt.exit.get("exit_code")
            run.exit_code = code if isinstance(code, int) and 0 <= code < 256 else None
        visit.note("outcome", words.outcome(run.outcome), outcome=run.outcome.value)
        visit.commit()
    _report(visit)
    visit.folder.key.unlink(missing_ok=True)
    shutil.rmtree(visit.folder.host_keys, ignore_errors=True)
    visit.world.forget_secrets(run.id)
    return Next(Phase.DONE)
