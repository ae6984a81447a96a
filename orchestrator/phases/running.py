"""From a machine that is right to a job that is over: ship, start, watch.

`watch` is a short visit: new bytes of every stream, the state, the exit record; then the run waits again without a
thread or a lock. Whatever the machine says goes through the files of the attempt, where its size is the offset.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobs import artifacts, checkpoints, images
from jobs.machine import AgentError
from jobs.machine import Visit as Look
from jobs.metrics import MetricsFile
from jobs.streams import AttemptFiles
from jobs.transport.base import AccessRefused, TransportError
from orchestrator import ledger, secrets
from orchestrator.phases import prices
from orchestrator.phases.copying import while_it_runs, while_it_ships
from orchestrator.phases.jobfile import job_file, verdict
from orchestrator.phases.stopping import (
    GRACE_SECONDS,
    STOP_LIMIT,
    close_if_stopped,
    deadline_seconds,
    reason_to_stop,
    stopped,
)
from orchestrator.phases.visit import Next, Visit
from orchestrator.records import AttemptOutcome, Json, Phase
from providers.base import InstanceStatus
from providers.errors import NotFound, ProviderError

UNREACHABLE_LIMIT = timedelta(minutes=10)  # a machine that exists but cannot be spoken to for so long is lost
SILENCE_LIMIT = timedelta(seconds=30)  # an agent whose beat stands still for so long is asked whether it lives
_ENDED_BY_OTHERS = (InstanceStatus.STOPPED, InstanceStatus.FAILED, InstanceStatus.TERMINATING)
PULL_EVERY = timedelta(seconds=60)
ESTIMATE_EVERY = timedelta(hours=1)


def ship(visit: Visit) -> Next:
    """The files of the submission, and the newest whole checkpoint of an earlier attempt."""
    if close_if_stopped(visit):
        return Next(Phase.TEARDOWN)
    try:
        with while_it_ships(visit):
            _ship_image(visit)
            visit.machine().unpack(visit.folder.bundle, str(visit.run.notes["bundle_digest"]))
            _restore_checkpoint(visit)
    except AccessRefused as error:
        return _lost(visit, str(error))
    except images.ImageError as error:
        visit.close_attempt(AttemptOutcome.FAILED, str(error))
        return Next(Phase.TEARDOWN)
    except (TransportError, AgentError) as error:
        return _try_again(visit, "shipping", error)
    visit.clear("shipping")
    return Next(Phase.START)


def start(visit: Visit) -> Next:
    """Start the agent, once; from here the job goes on without anybody watching."""
    if close_if_stopped(visit):
        return Next(Phase.TEARDOWN)
    attempt, world = visit.current, visit.world
    try:
        values = secrets.resolve(visit.run.id, visit.spec.all_secrets, world.home, world.env)
    except (secrets.SecretMissing, secrets.SecretsFileOpen) as error:
        visit.close_attempt(AttemptOutcome.FAILED, str(error))
        return Next(Phase.TEARDOWN)
    world.keep_secrets(visit.run.id, values)
    seconds = _seconds_left(visit)
    traits = visit.provider.traits
    job = job_file(visit.run, attempt, visit.spec, traits, image=visit.image, deadline_seconds=seconds)
    try:
        own = {name: values[name] for name in visit.spec.secrets}
        visit.machine().start(job, own, registry=_registry(visit, values))
    except (TransportError, AgentError) as error:
        return _try_again(visit, "starting", error)
    visit.clear("starting")
    visit.remember(deadline=(visit.now + timedelta(seconds=seconds)).isoformat())
    visit.note("agent", "the agent is started")
    return Next(Phase.WATCH)


def watch(visit: Visit) -> Next:
    """One look at the machine."""
    files = AttemptFiles(visit.attempt_folder.root)
    offsets = files.offsets()
    try:
        look = visit.machine().visit(offsets)
    except (TransportError, AgentError) as error:
        return _not_answering(visit, error)
    is_last = look.exit is not None and look.drained
    files.append(offsets, look.new, secrets=values_to_hide(visit), final=is_last)
    if any(look.new.values()) or is_last:
        read_metrics(visit, final=is_last)
    _note_state(visit, look)
    if look.exit is not None:
        return _job_is_over(visit, look.exit)
    if _is_silent(visit, look) and (lost := _agent_is_silent(visit)) is not None:
        return lost
    visit.clear("not answering")
    visit.clear("refused")
    if (stopping := _stop_if_asked(visit)) is not None:
        return stopping
    return _while_it_runs(visit) if look.drained else visit.stay(0.0)


def fate(visit: Visit) -> AttemptOutcome | None:
    """What became of the machine, by its cloud's word; None when it exists or nothing is known."""
    try:
        status = visit.instance().status
    except NotFound:
        return AttemptOutcome.HOST_LOST
    except ProviderError:
        return None
    if status is InstanceStatus.PREEMPTED:
        return AttemptOutcome.PREEMPTED
    return AttemptOutcome.HOST_LOST if status in _ENDED_BY_OTHERS else None


def read_metrics(visit: Visit, *, final: bool) -> None:
    """Bring the run's metrics up to what the attempt's files hold."""
    folder = visit.attempt_folder
    MetricsFile(visit.folder.metrics).advance(
        visit.current.number,
        folder.log,
        folder.metrics,
        visit.spec.metrics.patterns,
        final=final,
        now=visit.now.timestamp(),
    )


def values_to_hide(visit: Visit) -> Collection[str]:
    """The values of the run's secrets, which its logs must not show."""
    names = visit.spec.all_secrets
    values = visit.world.secrets(visit.run.id, names) if names else {}
    unknown = [name for name in names if name not in values]
    if unknown and not visit.current.notes.get("unhidden"):
        visit.remember(unhidden=unknown)
        visit.note("warning", f"not at hand any more, so the log may show it: {', '.join(unknown)}")
    return values.values()


def pull_checkpoint(visit: Visit, path: str, folder: Path) -> None:
    snapshot = checkpoints.pull(visit.machine(), path, folder)
    if snapshot is not None:
        visit.fetched(snapshot.bytes)
        visit.note("checkpoint", f"checkpoint {snapshot.path.name} is here", bytes=snapshot.bytes)


def _seconds_left(visit: Visit) -> float:
    """Until the machine's deadline. A rented one has armed its switch at launch: that moment is not moved."""
    attempt = visit.current
    rate = ledger.hourly(ledger.meters_from_json(attempt.meters)) or attempt.usd_per_hour
    seconds = deadline_seconds(visit, usd_per_hour=rate)
    at_launch = attempt.notes.get("deadline")
    if at_launch is None or visit.provider.traits.owned:
        return seconds
    return min(seconds, max(0.0, (datetime.fromisoformat(at_launch) - visit.now).total_seconds()))


def _registry(visit: Visit, values: Mapping[str, str]) -> dict[str, str] | None:
    registry = visit.spec.registry
    if registry is None:
        return None
    return {"server": registry.server, "username": registry.username, "password": values[registry.password]}


def _ship_image(visit: Visit) -> None:
    """An image that was built here and is in no registry goes with the files, to a machine that does not have it."""
    build = visit.spec.build
    if build is None or build.push is not None or visit.provider.traits.is_container:
        return
    image, docker = str(visit.image), (visit.current.facts or {}).get("docker") or {}
    if not docker.get("ok") or visit.machine().has_image(image, docker=docker["program"]):
        return
    visit.note("agent", f"shipping the image {image}")
    with images.packed(image, env=visit.world.env) as chunks:
        visit.machine().load_image(chunks, docker=docker["program"])


def _restore_checkpoint(visit: Visit) -> None:
    if visit.spec.checkpoint is None:
        return
    snapshot = checkpoints.newest(visit.folder.checkpoints)
    if snapshot is None:
        return
    target = visit.folder.checkpoints / f"restore-{visit.current.number}.tar.gz"
    digest = checkpoints.bundle(snapshot, target)
    try:
        visit.machine().unpack(target, digest, folder=visit.spec.checkpoint.path)
    finally:
        target.unlink(missing_ok=True)
    visit.note("agent", f"restored checkpoint {snapshot.name}", snapshot=snapshot.name)


def _try_again(visit: Visit, what: str, error: Exception) -> Next:
    """A step that needs the machine did not come through; the machine may be gone, or merely out of reach."""
    visit.world.forget_machine(visit.current.machine)
    if (gone := fate(visit)) is not None:
        visit.close_attempt(gone, str(error))
        return Next(Phase.TEARDOWN)
    failing_for = visit.since(what)
    if failing_for > UNREACHABLE_LIMIT:
        return _lost(visit, f"{what} failed for {UNREACHABLE_LIMIT}: {error}")
    if not failing_for:
        visit.note("warning", f"{what} failed, trying again: {error}")
    return visit.stay(2.0)


def _lost(visit: Visit, reason: str) -> Next:
    visit.close_attempt(AttemptOutcome.HOST_LOST, reason)
    return Next(Phase.TEARDOWN)


def _not_answering(visit: Visit, error: Exception) -> Next:
    visit.world.forget_machine(visit.current.machine)
    silent_for = visit.since("not answering")
    newly_refused = isinstance(error, AccessRefused) and not visit.since("refused")  # it may have been cut off before
    if not silent_for or newly_refused:
        visit.note("warning", f"the machine does not answer: {error}")
    if (gone := fate(visit)) is not None:
        visit.close_attempt(gone, f"the machine is gone: {error}")
        return Next(Phase.COLLECT)
    if (reason := _reason(visit)) is not None and visit.since("stop wanted") > STOP_LIMIT:
        return _end_with_its_machine(visit, reason)
    if silent_for > UNREACHABLE_LIMIT:
        visit.close_attempt(AttemptOutcome.HOST_LOST, f"the machine did not answer for {UNREACHABLE_LIMIT}: {error}")
        return Next(Phase.COLLECT)
    return visit.stay(min(15.0, 1.0 + silent_for.total_seconds() / 4))


def _note_state(visit: Visit, look: Look) -> None:
    """Tell when the agent goes from one state to the next; a job that is over at once was still started."""
    state = look.state or {}
    phase = state.get("phase")
    if phase and phase != visit.current.notes.get("agent"):
        visit.remember(agent=phase, runs_in=state.get("runs_in"), image_digest=state.get("image_digest"))
        visit.note("agent", phase, **{name: state.get(name) for name in ("runs_in", "detail", "image_digest")})
        if _runs_without_its_image(visit, state) and not visit.current.notes.get("told"):
            visit.remember(told=True, without_image=visit.image)
            text = f"{visit.image} could not be used here: the job runs as a process instead"
            visit.note("warning", f"{text}: {_why_no_container(visit, state)}")
    if visit.current.started_at is None and (phase == "running" or look.exit is not None):
        visit.current.started_at = visit.now
        visit.run.started_at = visit.run.started_at or visit.now
        visit.changed = True


def _runs_without_its_image(visit: Visit, state: Json) -> bool:
    """A rented container is made from the image: what runs in it as a process runs in the image."""
    in_image = visit.provider.traits.is_container or state.get("runs_in") != "process"
    return visit.image is not None and not in_image


def _why_no_container(visit: Visit, state: Json) -> str:
    """The agent found no image, or the probe no Docker, so that the agent was not asked for a container at all."""
    docker = (visit.current.facts or {}).get("docker") or {}
    return str(state.get("fallback") or docker.get("error") or "Docker does not answer")


def _job_is_over(visit: Visit, exit_record: Json) -> Next:
    attempt = visit.current
    attempt.exit = exit_record
    attempt.exited_at = visit.now
    outcome, error = verdict(exit_record, stop_reason=_reason(visit))
    if outcome in (AttemptOutcome.FAILED, AttemptOutcome.HOST_LOST) and fate(visit) is AttemptOutcome.PREEMPTED:
        outcome = AttemptOutcome.PREEMPTED
    visit.note("agent", f"the job is over: {error or 'it succeeded'}", exit=exit_record)
    visit.close_attempt(outcome, error)
    return Next(Phase.COLLECT)


def _is_silent(visit: Visit, look: Look) -> bool:
    beat = (look.state or {}).get("beat")
    return visit.world.pulse(visit.current.machine, beat) > SILENCE_LIMIT


def _agent_is_silent(visit: Visit) -> Next | None:
    """The beat stands still: a stopped clock (None: go on), or an agent that was killed with its twin."""
    try:
        if visit.machine().alive():
            return None
        if visit.machine().visit({}, limit=1).exit is not None:
            return visit.stay(0.0)
    except (TransportError, AgentError) as error:
        return _not_answering(visit, error)
    visit.close_attempt(AttemptOutcome.HOST_LOST, "the agent on the machine was killed")
    return Next(Phase.COLLECT)


def _while_it_runs(visit: Visit) -> Next:
    prices.follow(visit)
    _estimate(visit)
    _pull_meanwhile(visit)
    quick = 0.02 + visit.waited.total_seconds() / 10
    return visit.stay(min(visit.provider.traits.watch_seconds, quick))


def _stop_if_asked(visit: Visit) -> Next | None:
    """A job that must end gets TERM and its grace, and is over in the usual way; its machine is not waited for long."""
    if (reason := _reason(visit)) is None:
        return None
    wanted_for = visit.since("stop wanted")
    if visit.current.notes.get("stop") is None and not _ask_to_stop(visit, reason, first=not wanted_for):
        visit.world.forget_machine(visit.current.machine)
    if wanted_for > STOP_LIMIT:
        return _end_with_its_machine(visit, reason)
    return visit.stay(0.2 if visit.current.notes.get("stop") else 2.0)


def _reason(visit: Visit) -> str | None:
    """Why the job has been asked to stop, or should be."""
    asked: str | None = visit.current.notes.get("stop")
    return asked or reason_to_stop(visit)


def _ask_to_stop(visit: Visit, reason: str, *, first: bool) -> bool:
    try:
        visit.machine().stop(reason, GRACE_SECONDS)
    except (TransportError, AgentError) as error:
        if first:
            visit.note("warning", f"the job cannot be asked to stop, trying again: {error}")
        return False
    visit.remember(stop=reason)
    visit.note("cancel" if reason == "cancelled" else "budget", f"the job is asked to stop: {reason}")
    return True


def _end_with_its_machine(visit: Visit, reason: str) -> Next:
    outcome, _ = stopped(reason)
    visit.close_attempt(outcome, "the job did not stop in time; its machine is ended")
    return Next(Phase.COLLECT)


def _estimate(visit: Visit) -> None:
    """Book what has accrued, now and then, so that `cost` by day is right while a long job runs."""
    last = visit.current.notes.get("estimated_at")
    since = datetime.fromisoformat(last) if last else visit.current.billing_from
    if since is None or visit.now - since < ESTIMATE_EVERY or not visit.current.meters:
        return
    previous = visit.world.store.charges(run_id=visit.run.id)
    visit.charges += ledger.estimate_rows(visit.current, visit.now, previous)
    visit.remember(estimated_at=visit.now.isoformat())


def _pull_meanwhile(visit: Visit) -> None:
    """Artifacts and checkpoints come over while the job runs: what is here cannot be lost with the machine."""
    spec, folder = visit.spec, visit.folder
    try:
        with while_it_runs(visit):
            if spec.artifacts and _is_due(visit, "artifacts", PULL_EVERY):
                pulled = artifacts.pull(visit.machine(), spec.artifacts, folder.artifacts, folder.manifest, final=False)
                visit.fetched(pulled.bytes)
            if spec.checkpoint is not None and _is_due(visit, "checkpoint", spec.checkpoint.every):
                pull_checkpoint(visit, spec.checkpoint.path, folder.checkpoints)
    except (TransportError, AgentError, OSError) as error:
        visit.note("warning", f"could not copy from the machine, trying again later: {error}")


def _is_due(visit: Visit, what: str, every: timedelta) -> bool:
    """True once per interval, counted from the start of watching."""
    last = datetime.fromisoformat(visit.current.notes.get(f"{what}_at") or visit.run.phase_since.isoformat())
    if visit.now - last < every:
        return False
    visit.remember(**{f"{what}_at": visit.now.astimezone(UTC).isoformat()})
    return True
