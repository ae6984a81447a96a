"""From a spec to a machine that is what was sold: quote, provision, boot, probe.

Money is at stake here. The machine's name is committed before the cloud hears of it; a create that ended in anything
but a clean yes or no is followed by a look-up of that name before anything else is rented.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from jobs.machine import AgentError
from jobs.transport import keys
from jobs.transport.base import AccessRefused, TransportError
from orchestrator import ledger, placement
from orchestrator.phases.fitness import shortcoming
from orchestrator.phases.visit import Next, Visit
from orchestrator.placement import Ranked, Ranking
from orchestrator.records import Attempt, AttemptOutcome, Outcome, Phase
from orchestrator.world import access_to_json, offer_from_json, offer_to_json
from providers.base import Instance, InstanceStatus, LaunchRequest
from providers.errors import (
    Ambiguous,
    AuthFailed,
    BadHost,
    NoCapacity,
    NoFunds,
    NotFound,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)

QUOTE_LIMIT = timedelta(minutes=10)  # for clouds that do not answer
PROVISION_LIMIT = timedelta(minutes=10)  # for throttling and look-ups
LISTING_LAG = timedelta(seconds=60)  # a machine just made may be missing from a list for so long
CAPACITY_MEMORY = 300.0  # seconds for which an exhausted offer is left alone
BAD_HOST_MEMORY = 24 * 3600.0

_REFUSALS = (AuthFailed, NoFunds, QuotaExceeded)


def quote(visit: Visit) -> Next:
    """Choose an offer and commit the name of the machine that is to be made from it."""
    if visit.run.cancel_requested_at is not None:
        return _give_up(visit, Outcome.CANCELLED, None)
    names = [name for name in _candidates(visit) if name not in _refused(visit)]
    ranking = placement.quote(
        visit.spec,
        [visit.world.provider(name) for name in names],
        remembered=visit.world.store.remembered(),
        tried=_tried(visit),
    )
    for name, error in ranking.unavailable.items():
        visit.note("offer", f"{name} did not answer: {error}", provider=name)
        if isinstance(error, _REFUSALS):
            _refused(visit)[name] = str(error)
    if not ranking.eligible:
        return _nothing_to_rent(visit, ranking)
    _commit_to(visit, ranking.eligible[0])
    return Next(Phase.PROVISION)


def provision(visit: Visit) -> Next:
    """Ask the cloud for the machine, once; when it may have been asked before, look for the name first."""
    attempt = visit.current
    if attempt.instance_id is not None:
        return Next(Phase.BOOT)
    if visit.run.cancel_requested_at is not None and not attempt.notes.get("asked"):
        visit.close_attempt(AttemptOutcome.CANCELLED)
        return Next(Phase.SETTLE)
    try:
        if attempt.notes.get("asked"):
            return _look_for_it(visit)
        visit.remember(asked=True)
        visit.commit()
        instance = visit.provider.create(offer_from_json(attempt.offer), _launch_request(visit))
    except ProviderError as error:
        return _not_created(visit, error)
    return _accept(visit, instance)


def boot(visit: Visit) -> Next:
    """Wait until the agent can be put on the machine; the deadline counts from the last progress."""
    if visit.run.cancel_requested_at is not None:
        visit.close_attempt(AttemptOutcome.CANCELLED)
        return Next(Phase.TEARDOWN)
    try:
        instance = visit.instance()
    except NotFound:
        return _vanished_in_boot(visit)
    except (Unreachable, Throttled) as error:
        return _keep_booting(visit, f"its cloud does not answer: {error}")
    if instance.status in (InstanceStatus.FAILED, InstanceStatus.STOPPED, InstanceStatus.PREEMPTED):
        visit.close_attempt(_BOOT_FAILURES[instance.status], instance.detail or f"the machine is {instance.status}")
        return Next(Phase.TEARDOWN)
    if instance.access is None:
        return _keep_booting(visit, instance.detail or instance.status.value, progress=instance.progress)
    visit.remember(access=access_to_json(instance.access))
    try:
        visit.machine().install()
    except AccessRefused as error:
        return _bad_host(visit, str(error))
    except (TransportError, AgentError) as error:
        visit.world.forget_machine(visit.current.machine)
        return _keep_booting(visit, str(error), progress=instance.progress)
    visit.current.running_from = visit.current.running_from or visit.now
    visit.note("machine", f"{visit.current.machine} is reachable")
    return Next(Phase.PROBE)


def probe(visit: Visit) -> Next:
    """Look whether the machine is what was sold, before anything is shipped to it."""
    try:
        facts = visit.machine().probe(docker=visit.spec.image is not None)
    except (TransportError, AgentError) as error:
        if visit.since("probe failed") > timedelta(seconds=60):
            return _bad_host(visit, f"it cannot be examined: {error}")
        return visit.stay(2.0)
    visit.current.facts = facts
    wrong = shortcoming(visit.spec, offer_from_json(visit.current.offer), facts, visit.provider.traits)
    if wrong is not None:
        return _bad_host(visit, wrong)
    visit.note("machine", "the machine is what was offered", facts=facts)
    return Next(Phase.SHIP)


_BOOT_FAILURES = {
    InstanceStatus.FAILED: AttemptOutcome.NEVER_BOOTED,
    InstanceStatus.STOPPED: AttemptOutcome.NEVER_BOOTED,
    InstanceStatus.PREEMPTED: AttemptOutcome.PREEMPTED,
}


def _candidates(visit: Visit) -> Sequence[str]:
    return visit.spec.place.providers or visit.world.provider_names()


def _refused(visit: Visit) -> dict[str, str]:
    refused: dict[str, str] = visit.run.notes.setdefault("refused", {})
    return refused


def _tried(visit: Visit) -> set[str]:
    if visit.attempt is None or visit.attempt.outcome is not None:
        return set()
    return {str(left["offer_id"]) for left in visit.attempt.tries}


def _commit_to(visit: Visit, choice: Ranked) -> None:
    """Make, or point anew, the attempt whose machine is about to be asked for."""
    offer, run = choice.offer, visit.run
    unused = visit.attempt if visit.attempt is not None and visit.attempt.outcome is None else None
    number = unused.number if unused else run.attempt + 1
    tries = unused.tries if unused else []
    run.attempt = number
    visit.attempt = Attempt(
        run_id=run.id,
        number=number,
        machine=f"gpujob-{run.id}-{number}-{len(tries) + 1}",
        provider=offer.provider,
        offer=offer_to_json(offer),
        created_at=unused.created_at if unused else visit.now,
        host_id=offer.host_id,
        usd_per_hour=offer.usd_per_hour,
        tries=tries,
    )
    visit.note(
        "offer",
        f"{offer.provider} {offer.region} {offer.gpu or 'CPU'} at ${offer.usd_per_hour} per hour",
        offer_id=offer.offer_id,
        machine=visit.attempt.machine,
    )


def _nothing_to_rent(visit: Visit, ranking: Ranking) -> Next:
    asked_in_vain = [error for error in ranking.unavailable.values() if isinstance(error, (Unreachable, Throttled))]
    if asked_in_vain and visit.waited < QUOTE_LIMIT:
        return visit.stay(10.0)
    left = visit.attempt.tries if visit.attempt and visit.attempt.outcome is None else []
    reasons = [
        *(f"{name}: {why}" for name, why in _refused(visit).items()),
        *(f"{ranked.offer.provider} {ranked.offer.offer_id}: {ranked.why_not}" for ranked in ranking.offers),
        *(f"{try_['offer_id']}: {try_['reason']}" for try_ in left),
        *(str(error) for error in asked_in_vain),
    ]
    not_refused = any(try_["provider"] not in _refused(visit) for try_ in left)
    elsewhere = bool(ranking.offers or asked_in_vain) or not_refused
    outcome = Outcome.REFUSED if _refused(visit) and not elsewhere else Outcome.NO_CAPACITY
    return _give_up(visit, outcome, "; ".join(dict.fromkeys(reasons)) or "no offer fits the spec")


def _give_up(visit: Visit, outcome: Outcome, error: str | None) -> Next:
    """End the run before it got a machine; an attempt that was opened in vain is closed with it."""
    if visit.attempt is not None and visit.attempt.outcome is None:
        visit.close_attempt(AttemptOutcome(outcome.value), error)
    visit.run.notes["verdict"] = {"outcome": outcome.value, "error": error}
    visit.changed = True
    return Next(Phase.SETTLE)


def _launch_request(visit: Visit) -> LaunchRequest:
    attempt = visit.current
    seconds = ledger.deadline_seconds(visit.spec.limits, usd_per_hour=attempt.usd_per_hour, spent=visit.spent())
    own = visit.provider.traits.owned  # the user has a key for it already
    return LaunchRequest(
        name=attempt.machine,
        owner=visit.run.owner,
        run_id=visit.run.id,
        attempt=attempt.number,
        deadline=visit.now + timedelta(seconds=seconds),
        disk_gb=visit.spec.resources.disk / 10**9,
        image=visit.spec.image,
        public_key="" if own else keys.ensure(visit.folder.key, comment=attempt.machine),
    )


def _accept(visit: Visit, instance: Instance) -> Next:
    """Write down what the cloud said yes to; its own price is the rate from now on."""
    attempt = visit.current
    attempt.instance_id = instance.id
    attempt.host_id = instance.host_id or attempt.host_id
    attempt.billing_from = instance.created_at
    attempt.meters = ledger.meters_to_json(instance.meters)
    if instance.usd_per_hour is not None:
        attempt.usd_per_hour = instance.usd_per_hour
    visit.note("machine", f"{attempt.provider} made {attempt.machine} ({instance.id})", instance_id=instance.id)
    cap = visit.spec.limits.max_price_per_hour
    if cap is not None and attempt.usd_per_hour > cap:
        return _too_dear(visit, cap)
    return Next(Phase.BOOT)


def _too_dear(visit: Visit, cap: Decimal) -> Next:
    offer = offer_from_json(visit.current.offer)
    reason = f"rented at ${visit.current.usd_per_hour} per hour, above the cap of ${cap}"
    visit.world.store.remember(offer.provider, offer.offer_id, reason, CAPACITY_MEMORY)
    visit.close_attempt(AttemptOutcome.BAD_HOST, reason)
    return Next(Phase.TEARDOWN)


def _look_for_it(visit: Visit) -> Next:
    """A create may have happened: adopt the machine of our name, or be sure that there is none."""
    if (found := _by_name(visit)) is not None:
        visit.note("machine", f"found {visit.current.machine}, which an earlier create had made")
        return _accept(visit, found)
    if visit.since("not in the list") < LISTING_LAG and not visit.provider.traits.owned:
        return visit.stay(5.0)
    return _leave_offer(visit, "the create did not come through")


def _by_name(visit: Visit) -> Instance | None:
    """The machine that the cloud may have made: by the id that it named, else by our name for it in the list."""
    if (created_id := visit.current.notes.get("created_id")) is not None:
        try:
            return visit.provider.get(str(created_id))
        except NotFound:
            return None
    machines = visit.provider.list(visit.run.owner)
    return next((machine for machine in machines if machine.name == visit.current.machine), None)


def _not_created(visit: Visit, error: ProviderError) -> Next:
    """The one table of what follows a failed create."""
    if isinstance(error, (NoCapacity, OfferGone)):
        offer = offer_from_json(visit.current.offer)
        visit.world.store.remember(offer.provider, offer.offer_id, f"no capacity: {error}", CAPACITY_MEMORY)
        return _leave_offer(visit, str(error))
    if isinstance(error, BadHost):
        _remember_host(visit, str(error))
        return _leave_offer(visit, str(error))
    if isinstance(error, _REFUSALS):
        _refused(visit)[visit.current.provider] = str(error)
        return _leave_offer(visit, str(error))
    if isinstance(error, Ambiguous) and error.created_id is not None:
        visit.remember(created_id=error.created_id)
    if isinstance(error, (Ambiguous, Unreachable, Throttled, NotFound)):
        return _wait_or_leave(visit, error)
    visit.run.notes["verdict"] = {"outcome": Outcome.ERROR.value, "error": str(error)}
    visit.close_attempt(AttemptOutcome.ERROR, str(error))
    return Next(Phase.SETTLE)


def _wait_or_leave(visit: Visit, error: ProviderError) -> Next:
    visit.note("machine", f"{visit.current.provider}: {error}", error=type(error).__name__)
    if visit.waited > PROVISION_LIMIT:
        visit.close_attempt(AttemptOutcome.NEVER_BOOTED, f"no clear answer from {visit.current.provider}: {error}")
        return Next(Phase.TEARDOWN)  # teardown looks for the name until the cloud says that there is none
    return visit.stay(error.after if isinstance(error, Throttled) else 2.0)


def _leave_offer(visit: Visit, reason: str) -> Next:
    """This offer is no use: say why, and quote again for the same attempt."""
    attempt = visit.current
    offer_id = attempt.offer["offer_id"]
    attempt.tries.append(
        {"offer_id": offer_id, "provider": attempt.provider, "machine": attempt.machine, "reason": reason}
    )
    visit.note("offer", f"left {attempt.provider} {offer_id}: {reason}")
    return Next(Phase.QUOTE)


def _remember_host(visit: Visit, reason: str) -> None:
    if visit.current.host_id and not visit.provider.traits.owned:
        visit.world.store.remember(visit.current.provider, visit.current.host_id, reason, BAD_HOST_MEMORY)


def _bad_host(visit: Visit, reason: str) -> Next:
    _remember_host(visit, reason)
    visit.close_attempt(AttemptOutcome.BAD_HOST, reason)
    return Next(Phase.TEARDOWN)


def _vanished_in_boot(visit: Visit) -> Next:
    """A machine just made may not be visible yet; one that stays invisible never booted."""
    if visit.since("not visible") < LISTING_LAG and not visit.provider.traits.owned:
        return visit.stay(3.0)
    visit.close_attempt(AttemptOutcome.NEVER_BOOTED, "the machine disappeared while it booted")
    return Next(Phase.TEARDOWN)


def _keep_booting(visit: Visit, why: str, *, progress: str = "") -> Next:
    if progress and progress != visit.current.notes.get("progress"):
        visit.remember(progress=progress)
        visit.clear("no progress")
        visit.note("machine", progress)
    limit = timedelta(seconds=visit.provider.traits.boot_seconds)
    if visit.since("no progress") > limit:
        _remember_host(visit, f"no progress in boot for {limit}")
        visit.close_attempt(AttemptOutcome.NEVER_BOOTED, f"no progress in boot for {limit}: {why}")
        return Next(Phase.TEARDOWN)
    return visit.stay(1.0 if visit.waited < timedelta(seconds=30) else 3.0)


