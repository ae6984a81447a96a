"""From a machine that a cloud has accepted to one that is what was sold: boot, probe.

A boot is waited for as long as it makes progress. What is not as it was offered is remembered and left before anything
is shipped to it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from jobs.machine import AgentError
from jobs.transport.base import AccessRefused, TransportError
from orchestrator.phases.fitness import shortcoming
from orchestrator.phases.renting import LISTING_LAG, remember_host
from orchestrator.phases.stopping import close_if_stopped
from orchestrator.phases.visit import Next, Visit
from orchestrator.records import AttemptOutcome, Phase
from orchestrator.world import access_to_json, offer_from_json
from providers.base import InstanceStatus
from providers.errors import NotFound, ProviderError

WAYS_LAST = timedelta(seconds=4)  # then the cloud is asked again for the addresses of a machine that does not answer
SILENT = timedelta(seconds=15)  # then a person is told what is waited for
AGENT_LIMIT = timedelta(minutes=1)  # a machine that lets us in and on which the agent cannot be put
KEY_LIMIT = timedelta(minutes=2)  # a new machine may be up before it knows our key


def boot(visit: Visit) -> Next:
    """Wait until the agent can be put on the machine; the deadline counts from the last progress."""
    if close_if_stopped(visit):
        return Next(Phase.TEARDOWN)
    if not _knows_the_way(visit) and (waiting := _ask_the_way(visit)) is not None:
        return waiting
    ways, tried = visit.current.notes["ways"], int(visit.current.notes.get("ways_tried", 0))
    visit.current.notes["access"] = ways[tried % len(ways)]  # a direct one may be closed where a proxy is open
    try:
        visit.machine().install()
    except (TransportError, AgentError) as error:
        visit.world.forget_machine(visit.current.machine)
        visit.current.notes["ways_tried"] = tried + 1
        if isinstance(error, AccessRefused) and _knows_its_keys(visit):
            return _bad_host(visit, str(error))
        if isinstance(error, AgentError) and visit.since("no agent") > AGENT_LIMIT:
            return _bad_host(visit, str(error))
        return _keep_booting(visit, str(error))
    visit.current.running_from = visit.current.running_from or visit.now
    visit.note("machine", f"{visit.current.machine} is reachable")
    return Next(Phase.PROBE)


def probe(visit: Visit) -> Next:
    """Look whether the machine is what was sold, before anything is shipped to it."""
    if close_if_stopped(visit):
        return Next(Phase.TEARDOWN)
    try:
        facts = visit.machine().probe(docker=visit.image is not None)
    except (TransportError, AgentError) as error:
        if visit.since("probe failed") > timedelta(seconds=60):
            return _bad_host(visit, f"it cannot be examined: {error}")
        return visit.stay(2.0)
    visit.current.facts = facts
    wrong = shortcoming(
        visit.spec, offer_from_json(visit.current.offer), facts, visit.provider.traits, image=visit.image
    )
    if wrong is not None:
        return _bad_host(visit, wrong)
    visit.note("machine", "the machine is what was offered", facts=facts)
    return Next(Phase.SHIP)


_BOOT_FAILURES = {
    InstanceStatus.FAILED: AttemptOutcome.NEVER_BOOTED,
    InstanceStatus.STOPPED: AttemptOutcome.NEVER_BOOTED,
    InstanceStatus.PREEMPTED: AttemptOutcome.PREEMPTED,
}


def _knows_the_way(visit: Visit) -> bool:
    """Whether the cloud has named the machine's addresses a moment ago: it has a limit on how often it is asked."""
    asked_at = visit.current.notes.get("ways_at")
    return asked_at is not None and visit.now - datetime.fromisoformat(asked_at) < WAYS_LAST


def _ask_the_way(visit: Visit) -> Next | None:
    """Ask the cloud where the machine can be reached; what to do when it cannot be (yet), None when it may be tried."""
    try:
        instance = visit.instance()
    except NotFound:
        return _vanished_in_boot(visit)
    except ProviderError as error:
        return _keep_booting(visit, f"its cloud does not describe it: {error}")
    if instance.status in _BOOT_FAILURES:
        visit.close_attempt(_BOOT_FAILURES[instance.status], instance.detail or f"the machine is {instance.status}")
        return Next(Phase.TEARDOWN)
    _note_progress(visit, instance.progress)
    if instance.access is None:
        visit.world.expect_ssh()
        return _keep_booting(visit, instance.detail or instance.status.value)
    ways = [access_to_json(access) for access in (instance.access, *instance.other_access)]
    visit.remember(ways=ways, ways_at=visit.now.isoformat())
    return None


def _note_progress(visit: Visit, progress: str) -> None:
    if progress and progress != visit.current.notes.get("progress"):
        visit.remember(progress=progress)
        visit.clear("no progress")
        visit.note("machine", progress)


def _keep_booting(visit: Visit, why: str) -> Next:
    limit = timedelta(seconds=visit.provider.traits.boot_seconds)
    if visit.since("no progress") > limit:
        remember_host(visit, f"no progress in boot for {limit}")
        visit.close_attempt(AttemptOutcome.NEVER_BOOTED, f"no progress in boot for {limit}: {why}")
        return Next(Phase.TEARDOWN)
    if visit.waited > SILENT and not visit.current.notes.get("told_why_it_boots"):
        visit.remember(told_why_it_boots=True)
        visit.note("machine", f"still booting: {why}")
    return visit.stay(min(3.0, 0.2 + visit.waited.total_seconds() / 20))


def _vanished_in_boot(visit: Visit) -> Next:
    """A machine just made may not be visible yet; one that stays invisible never booted."""
    if visit.since("not visible") < LISTING_LAG and not visit.provider.traits.owned:
        return visit.stay(3.0)
    visit.close_attempt(AttemptOutcome.NEVER_BOOTED, "the machine disappeared while it booted")
    return Next(Phase.TEARDOWN)


def _bad_host(visit: Visit, reason: str) -> Next:
    remember_host(visit, reason)
    visit.close_attempt(AttemptOutcome.BAD_HOST, reason)
    return Next(Phase.TEARDOWN)


def _knows_its_keys(visit: Visit) -> bool:
    """A machine of the user's own always does; a new one after a while."""
    return visit.provider.traits.owned or visit.since("not let in") > KEY_LIMIT
