"""From a spec to a machine that a cloud has accepted: quote, provision.

Money is at stake here. The machine's name is committed before the cloud hears of it; a create that ended in anything
but a clean yes or no is followed by a look-up of that name before anything else is rented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from jobs.spec import Spec
from jobs.transport import keys
from orchestrator import ledger, outlook, past_runs, placement, same_account, secrets
from orchestrator import unclear as unclear_creates
from orchestrator.estimates import Estimates
from orchestrator.phases import setting_aside, turns
from orchestrator.phases.stopping import deadline_seconds
from orchestrator.phases.visit import Next, Visit
from orchestrator.placement import Ranked, Ranking
from orchestrator.price_history import PriceHistory
from orchestrator.records import Attempt, AttemptOutcome, Json, Outcome, Phase
from orchestrator.world import offer_from_json, offer_to_json
from providers.base import GB, Instance, InstanceStatus, LaunchRequest, Offer, RegistryLogin
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
    Rejected,
    Throttled,
)

QUOTE_LIMIT = timedelta(minutes=10)  # for clouds that do not answer
PROVISION_LIMIT = timedelta(minutes=10)  # for throttling and look-ups
LISTING_LAG = timedelta(seconds=60)  # a machine just made may be missing from a list for so long
CREATES_PER_OFFER = 3  # when nothing came of them and nobody says why
MOST_TRIES = 50  # offers that are tried for one attempt
BUDGET_SECONDS = 10.0  # between two looks whether live machines have given something back
CAPACITY_MEMORY = 300.0  # seconds for which an exhausted offer is left alone
BAD_HOST_MEMORY = 24 * 3600.0

_REFUSALS = (AuthFailed, NoFunds, QuotaExceeded)


def quote(visit: Visit) -> Next:
    """Choose an offer and commit the name of the machine that is to be made from it."""
    if visit.run.cancel_requested_at is not None:
        return _give_up(visit, Outcome.CANCELLED, None)
    waits = turns.turn(visit)
    if isinstance(waits, turns.Never):
        return _give_up(visit, waits.outcome, waits.reason)
    if waits is not None:
        return waits
    names = [name for name in _candidates(visit) if name not in _refused(visit)]
    providers = [visit.world.provider(name) for name in names]
    same_account.ask_beside(providers)
    ranking = placement.quote(
        _for_this_attempt(visit),
        providers,
        remembered=visit.world.store.remembered(),
        tried=_tried(visit),
        expected=_expected(visit),
        ingress_gb=Decimal(visit.run.notes.get("bundle_bytes", 0)) / GB,
        note=PriceHistory(visit.world.home, now=visit.world.clock).note,
    )
    for name, error in ranking.unavailable.items():
        refuses = isinstance(error, _REFUSALS)
        visit.note("offer", f"{name}: {error}", provider=name, unanswered=not refuses)
        if refuses:
            _refused(visit)[name] = str(error)
    if not ranking.eligible or len(_tries(visit)) >= MOST_TRIES:
        return _nothing_to_rent(visit, ranking)
    best = ranking.eligible[0]
    choice = best.offer
    if _cannot_be_paid(visit, choice):
        left = visit.spec.limits.max_cost - visit.spent()
        reason = f"${left} is left of limits.max_cost: too little for a machine at ${choice.usd_per_hour} per hour"
        return _give_up(visit, Outcome.STOPPED_BY_BUDGET, reason)
    if (used_up := setting_aside.used_up(visit, choice)) is not None:
        return _give_up(visit, Outcome.STOPPED_BY_BUDGET, used_up)
    if setting_aside.must_wait(visit, choice):
        return visit.stay(BUDGET_SECONDS)
    visit.clear("no offers")
    _commit_to(visit, best)
    return Next(Phase.PROVISION)


def provision(visit: Visit) -> Next:
    """Ask the cloud for the machine, once; when it may have been asked before, look for the name first."""
    attempt = visit.current
    if attempt.instance_id is not None:
        return Next(Phase.BOOT)
    if attempt.notes.get("asked"):
        return _look_for_it(visit)
    if visit.run.cancel_requested_at is not None:
        visit.close_attempt(AttemptOutcome.CANCELLED)
        return Next(Phase.SETTLE)
    offer = offer_from_json(attempt.offer)
    if not setting_aside.set_aside(visit, offer):
        return Next(Phase.QUOTE, BUDGET_SECONDS)
    try:
        request = _launch_request(visit, offer)
    except (secrets.SecretMissing, secrets.SecretsFileOpen) as error:
        visit.close_attempt(AttemptOutcome.FAILED, str(error))
        return Next(Phase.SETTLE)
    visit.remember(asked=True, asked_at=visit.now.isoformat(), deadline=request.deadline.isoformat())
    visit.remember(**{same_account.ACCOUNT: same_account.account_of(visit.provider)})
    visit.commit()
    try:
        instance = visit.provider.create(offer, request)
    except ProviderError as error:
        return _not_created(visit, error)
    return _accept(visit, instance)


def _for_this_attempt(visit: Visit) -> Spec:
    """What is wanted; of the last attempt, when that was asked for, on a machine that nobody takes away."""
    spec, attempt = visit.spec, visit.attempt
    number = attempt.number if attempt is not None and attempt.outcome is None else visit.run.attempt + 1
    if not spec.retry.on_demand_last or number < spec.retry.attempts:
        return spec
    return spec.model_copy(update={"place": spec.place.model_copy(update={"spot": "never"})})


def _expected(visit: Visit) -> Estimates:
    """What earlier runs of this job tell of its time."""
    run = visit.run
    past = past_runs.read(visit.world.store, run.name, run.project)
    speeds = past_runs.measured_speeds(visit.world.store)
    return Estimates(visit.spec, past, digest=run.notes.get("bundle_digest"), speeds=speeds)


def _candidates(visit: Visit) -> Sequence[str]:
    return visit.spec.place.providers or visit.world.provider_names()


def _refused(visit: Visit) -> dict[str, str]:
    refused: dict[str, str] = visit.run.notes.setdefault("refused", {})
    return refused


def _tries(visit: Visit) -> Sequence[Json]:
    """The offers that the attempt which is to get a machine has left."""
    return visit.attempt.tries if visit.attempt is not None and visit.attempt.outcome is None else ()


def _tried(visit: Visit) -> set[tuple[str, str]]:
    """Offers, by provider, not to be tried again: those that were refused, or that nothing came of too often."""
    counted: Counter[tuple[str, str]] = Counter()
    for left in _tries(visit):
        offer = (str(left["provider"]), str(left["offer_id"]))
        counted[offer] += 1 if left.get("unclear") else CREATES_PER_OFFER
    return {offer for offer, count in counted.items() if count >= CREATES_PER_OFFER}


def _cannot_be_paid(visit: Visit, offer: Offer) -> bool:
    """Whether such a machine would have to be ended for the budget before it was of any use."""
    return visit.spent() + setting_aside.least(visit, offer) > visit.spec.limits.max_cost


def _commit_to(visit: Visit, best: Ranked) -> None:
    """Make, or point anew, the attempt whose machine is about to be asked for."""
    run, offer = visit.run, best.offer
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
        notes=outlook.notes_of(best.estimate),
    )
    visit.note(
        "offer",
        f"{offer.provider} {offer.region} {offer.gpu or 'CPU'} at ${offer.usd_per_hour} per hour",
        offer_id=offer.offer_id,
        machine=visit.attempt.machine,
        **_expectation(best),
    )


def _expectation(best: Ranked) -> Json:
    """What the choice rests on, for whoever asks later why it was made."""
    if (estimate := best.estimate) is None:
        return {}
    return {
        "expected_usd": ledger.plain(round(best.total_usd, 12)),
        "expected_seconds": round(estimate.seconds, 3),
        "rests_on": estimate.rests_on,
    }


def _nothing_to_rent(visit: Visit, ranking: Ranking) -> Next:
    unavailable = [error for error in ranking.unavailable.values() if not isinstance(error, _REFUSALS)]
    asked_in_vain = [error for error in unavailable if not isinstance(error, Rejected)]
    if asked_in_vain and visit.since("no offers") < QUOTE_LIMIT:
        return visit.stay(10.0)
    left = _tries(visit)
    reasons = [
        *(f"{name}: {why}" for name, why in _refused(visit).items()),
        *(f"{ranked.offer.provider} {ranked.offer.offer_id}: {ranked.why_not}" for ranked in ranking.offers),
        *(f"{try_['offer_id']}: {try_['reason']}" for try_ in left),
        *(f"{error.provider}: {error}" for error in unavailable),
        *(f"{name}: {why}" for name, why in ranking.passed_over.items()),
    ]
    refusals = [try_ for try_ in left if try_.get("refused") or try_["provider"] in _refused(visit)]
    possible = any((ranked.offer.provider, ranked.offer.offer_id) not in _tried(visit) for ranked in ranking.offers)
    outcome = Outcome.NO_CAPACITY
    if not (possible or asked_in_vain or len(refusals) < len(left)):
        outcome = Outcome.REFUSED if _refused(visit) or refusals else Outcome.ERROR if unavailable else outcome
    return _give_up(visit, outcome, "; ".join(dict.fromkeys(reasons)) or _nothing_fits(visit))


def _nothing_fits(visit: Visit) -> str:
    providers = [visit.world.provider(name) for name in _candidates(visit)]
    return "; ".join(("no offer fits the spec", *placement.why_nothing_fits(visit.spec, providers)))


def _give_up(visit: Visit, outcome: Outcome, error: str | None) -> Next:
    """End the run before it got a machine; an attempt that was opened in vain is closed with it."""
    if visit.attempt is not None and visit.attempt.outcome is None:
        visit.close_attempt(AttemptOutcome(outcome.value), error)
    visit.run.notes["verdict"] = {"outcome": outcome.value, "error": error}
    visit.changed = True
    return Next(Phase.SETTLE)


def _launch_request(visit: Visit, offer: Offer) -> LaunchRequest:
    attempt = visit.current
    seconds = deadline_seconds(visit, usd_per_hour=setting_aside.hourly(visit, offer))
    own = visit.provider.traits.owned  # the user has a key for it already
    host_key = visit.folder.host_keys / attempt.machine
    if not own:
        keys.ensure(host_key, comment=attempt.machine)
    return LaunchRequest(
        name=attempt.machine,
        owner=visit.run.owner,
        run_id=visit.run.id,
        attempt=attempt.number,
        deadline=visit.now + timedelta(seconds=seconds),
        disk_gb=visit.spec.resources.disk / 10**9,
        image=visit.image,
        registry=_registry_login(visit),
        public_key="" if own else keys.ensure(visit.folder.key, comment=visit.run.id),
        host_key="" if own else keys.private_text(host_key),
        max_usd_per_hour=_most(visit, offer),
    )


def _most(visit: Visit, offer: Offer) -> Decimal | None:
    """What its cloud shall never bill more than per hour: the machine's deadline counts on it where the rate moves."""
    cap = visit.spec.limits.max_price_per_hour
    return cap if offer.most_usd_per_hour is None else setting_aside.at_worst(visit, offer).usd_per_hour


def _registry_login(visit: Visit) -> RegistryLogin | None:
    """For a cloud that itself pulls the image; elsewhere the agent does, and is told when it starts."""
    registry = visit.spec.registry
    if registry is None or not visit.provider.traits.is_container:
        return None
    world = visit.world
    password = secrets.resolve(visit.run.id, [registry.password], world.home, world.env)[registry.password]
    return RegistryLogin(server=registry.server, username=registry.username, password=password)


def write_down(visit: Visit, instance: Instance) -> None:
    """Note what the cloud has made. Its price is the rate from now on; its clock may differ from ours."""
    attempt = visit.current
    asked_at = attempt.notes.get("asked_at") or attempt.created_at.isoformat()
    attempt.instance_id = instance.id
    attempt.host_id = instance.host_id or attempt.host_id
    attempt.billing_from = min(max(instance.created_at, datetime.fromisoformat(asked_at)), visit.now)
    attempt.meters = ledger.meters_to_json(instance.meters)
    if instance.usd_per_hour is not None:
        attempt.usd_per_hour = instance.usd_per_hour
    if instance.status is InstanceStatus.RUNNING:
        attempt.running_from = attempt.running_from or attempt.billing_from
    visit.note("machine", f"{attempt.provider} made {attempt.machine} ({instance.id})", instance_id=instance.id)


def _accept(visit: Visit, instance: Instance) -> Next:
    write_down(visit, instance)
    attempt = visit.current
    cap = visit.spec.limits.max_price_per_hour
    if cap is not None and attempt.usd_per_hour > cap:
        return _too_dear(visit, cap)
    _hold_to_its_money(visit)
    return Next(Phase.BOOT)


def _hold_to_its_money(visit: Visit) -> None:
    """A machine that turns out dearer than it was offered has to end sooner; its agent will be told so."""
    attempt, rate = visit.current, ledger.hourly(ledger.meters_from_json(visit.current.meters))
    deadline = attempt.notes.get("deadline")
    if deadline is None or rate <= setting_aside.hourly(visit, offer_from_json(attempt.offer)):
        return
    sooner = visit.now + timedelta(seconds=deadline_seconds(visit, usd_per_hour=rate))
    visit.remember(deadline=min(sooner, datetime.fromisoformat(deadline)).isoformat())


def _too_dear(visit: Visit, cap: Decimal) -> Next:
    offer = offer_from_json(visit.current.offer)
    reason = f"rented at ${visit.current.usd_per_hour} per hour, above the cap of ${cap}"
    visit.world.store.remember(offer.provider, offer.offer_id, reason, CAPACITY_MEMORY)
    visit.close_attempt(AttemptOutcome.BAD_HOST, reason)
    return Next(Phase.TEARDOWN)


def _look_for_it(visit: Visit) -> Next:
    """A create may have happened: adopt the machine of our name, or be sure that there is none."""
    try:
        found = look_up(visit)
    except ProviderError as error:
        return _wait_or_leave(visit, error)
    if found is not None:
        visit.note("machine", f"found {visit.current.machine}, which an earlier create had made")
        return _accept(visit, found)
    if visit.since("not in the list") < LISTING_LAG and not visit.provider.traits.owned:
        return visit.stay(5.0)
    return _leave_offer(visit, "the create did not come through", unclear=True)


def look_up(visit: Visit) -> Instance | None:
    """The machine that the cloud may have made: by the id that it named, else by our name for it."""
    if (created_id := visit.current.notes.get("created_id")) is not None:
        try:
            return visit.provider.get(str(created_id))
        except NotFound:
            return None
    return visit.provider.find(visit.current.machine, offer_from_json(visit.current.offer))


def _not_created(visit: Visit, error: ProviderError) -> Next:
    """The one table of what follows a failed create."""
    if isinstance(error, (NoCapacity, OfferGone)):
        offer = offer_from_json(visit.current.offer)
        visit.world.store.remember(offer.provider, offer.offer_id, f"no capacity: {error}", CAPACITY_MEMORY)
        return _leave_offer(visit, str(error))
    if isinstance(error, BadHost):
        remember_host(visit, str(error))
        return _leave_offer(visit, str(error))
    if isinstance(error, QuotaExceeded):  # of one family in one region: the cloud may have others for us
        return _leave_offer(visit, str(error), refused=True)
    if isinstance(error, _REFUSALS):
        _refused(visit)[visit.current.provider] = str(error)
        return _leave_offer(visit, str(error))
    if isinstance(error, Rejected):
        visit.run.notes["verdict"] = {"outcome": Outcome.ERROR.value, "error": str(error)}
        visit.close_attempt(AttemptOutcome.ERROR, str(error))
        return Next(Phase.SETTLE)
    if isinstance(error, Throttled):
        visit.remember(asked=False)  # a clear no: the same call again
    if isinstance(error, Ambiguous) and error.created_id is not None:
        visit.remember(created_id=error.created_id)
    return _wait_or_leave(visit, error)


def _wait_or_leave(visit: Visit, error: ProviderError) -> Next:
    """Nothing is clear: look again later, and not for ever."""
    visit.note("machine", f"{visit.current.provider}: {error}", error=type(error).__name__)
    if visit.since("no clear answer") > PROVISION_LIMIT:
        visit.close_attempt(AttemptOutcome.NEVER_BOOTED, f"no clear answer from {visit.current.provider}: {error}")
        return Next(Phase.TEARDOWN)  # teardown looks for the name until the cloud says that there is none
    return visit.stay(error.after if isinstance(error, Throttled) else 2.0)


def _leave_offer(visit: Visit, reason: str, *, unclear: bool = False, refused: bool = False) -> Next:
    """This offer is no use: say why, and quote again for the same attempt."""
    attempt = visit.current
    offer_id = attempt.offer["offer_id"]
    left = {"offer_id": offer_id, "provider": attempt.provider, "machine": attempt.machine, "reason": reason}
    attempt.tries.append({**left, **({"unclear": True} if unclear else {}), **({"refused": True} if refused else {})})
    if unclear:
        note_unclear(visit)
    visit.note("offer", f"left {attempt.provider} {offer_id}: {reason}")
    return Next(Phase.QUOTE)


def note_unclear(visit: Visit) -> None:
    """A machine of this name may still appear; on one's own computers, which are looked at as they are, none does."""
    if not visit.provider.traits.owned:
        unclear_creates.note(visit.world.store, visit.current.provider, visit.current.machine)


def remember_host(visit: Visit, reason: str) -> None:
    """Leave this physical machine alone for a while, where its cloud names it."""
    if visit.current.host_id and not visit.provider.traits.owned:
        visit.world.store.remember(visit.current.provider, visit.current.host_id, reason, BAD_HOST_MEMORY)
