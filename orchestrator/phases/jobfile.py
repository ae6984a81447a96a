"""What the agent is told (job.json of designs/0002) and what its exit record means. Pure: no I/O, no clock."""

from __future__ import annotations

from jobs.spec import Spec
from orchestrator.phases.stopping import GRACE_SECONDS, stopped
from orchestrator.records import Attempt, AttemptOutcome, Json, Run
from providers.base import Traits

TELEMETRY_SECONDS = 5.0


def job_file(
    run: Run, attempt: Attempt, spec: Spec, traits: Traits, *, image: str | None, deadline_seconds: float
) -> Json:
    """job.json for this attempt on this machine. Holds names of secrets nowhere, values neither."""
    return {
        "version": 1,
        "run_id": run.id,
        "attempt": attempt.number,
        "machine": attempt.machine,
        "setup": spec.setup,
        "run": spec.run,
        "env": dict(spec.env),
        "container": _container(attempt, image, traits),
        "gpus": int(attempt.offer["gpu_count"]),
        "deadline_seconds": deadline_seconds,
        "max_duration_seconds": spec.limits.max_duration.total_seconds(),
        "grace_seconds": GRACE_SECONDS,
        "telemetry_seconds": TELEMETRY_SECONDS,
        "venv": not traits.is_container,
        "self_destruct": list(traits.self_destruct),
        "preemption_notice": traits.preemption_notice if attempt.offer["spot"] else "",
    }


def verdict(exit_record: Json, *, stop_reason: str | None) -> tuple[AttemptOutcome, str | None]:
    """How the attempt ended, by the agent's exit record, and the error in words.

    `stop_reason` is why we wanted its end, whether or not the agent has heard of it.
    """
    reason, code = str(exit_record.get("reason")), exit_record.get("exit_code")
    detail = str(exit_record.get("detail") or "")
    if reason == "exited" and code == 0:
        return AttemptOutcome.SUCCEEDED, None
    if reason in ("stopped", "deadline") and stop_reason is not None:
        return stopped(stop_reason)
    if reason == "max_duration":
        return AttemptOutcome.TIMED_OUT, "limits.max_duration was reached"
    if reason == "deadline":
        return stopped("deadline")
    if reason == "preempted":
        return AttemptOutcome.PREEMPTED, detail or "the cloud took the machine away"
    if reason in ("agent", "stopped"):  # stopped, and not by us: the machine shuts down
        return AttemptOutcome.HOST_LOST, detail or "the agent on the machine was killed"
    return AttemptOutcome.FAILED, _failure(reason, exit_record, detail)


def _failure(reason: str, exit_record: Json, detail: str) -> str:
    code, signal = exit_record.get("exit_code"), exit_record.get("signal")
    how = f"killed by signal {signal}" if signal else f"exit code {code}"
    words = {
        "exited": f"the job ended with {how}",
        "setup": f"setup ended with {how}",
        "image": "no container could be made from the image",
        "oom": "the job was killed because memory ran out",
    }.get(reason, "the agent could not run the job")
    return f"{words}: {detail}" if detail else words


def _container(attempt: Attempt, image: str | None, traits: Traits) -> Json | None:
    if image is None or traits.is_container:
        return None
    docker = (attempt.facts or {}).get("docker") or {}
    if traits.owned and not docker.get("ok"):
        return None
    return {
        "image": image,
        "name": attempt.machine,
        "labels": {"gpujob.machine": attempt.machine},
        "gpus": int(attempt.offer["gpu_count"]),
        "memory_bytes": None,
        "fallback": traits.owned,
        "args": [],
    }
