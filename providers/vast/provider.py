"""VastProvider: instances of Vast.ai, which are containers made from the job's image on other people's hosts.

Owns which call is made when and what follows from its answer. The wire is client.py, the words are offers.py,
standing.py and mapping.py. Vast.ai knows no idempotency: a label is all that a lost create can be found by.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from providers import pods, sent
from providers.accounts import Account, Connection, Whose
from providers.base import (
    Charge,
    Check,
    FixedRates,
    Instance,
    InstanceStatus,
    LaunchRequest,
    Offer,
    OfferQuery,
    Offers,
    Settings,
    Traits,
)
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NotFound,
    OfferGone,
    ProviderError,
    Throttled,
    Unreachable,
)
from providers.made import MadeNames, affordable, is_gone
from providers.vast import account, mapping, offers
from providers.vast.offers import Ask
from providers.vast.snapshot import Instances, Source
from providers.vast.standing import Standing, message, standing, without_credit

OFFERS_KEPT = timedelta(seconds=15)  # ten searches a minute are allowed, and several runs may quote at once
OFFERS_TOLERABLE = timedelta(seconds=60)
ENOUGH_OFFERS = 50  # the cheapest ones come first
MOST_PAGES = 4
LOST_AFTER = timedelta(seconds=10)
CREDIT_KEPT = timedelta(seconds=30)
DESCRIBE_PATIENCE = 5.0  # what was just made is described in the same call
CHECK_PATIENCE = 5.0
LITTLE_CREDIT = Decimal(1)
DAY = timedelta(days=1)

log = logging.getLogger("gpujob.vast")

Json = dict[str, Any]
Rows = list[Json]
Heard = TypeVar("Heard")


class Client(Source, Protocol):
    """What this provider needs of client.Client."""

    def search(self, filters: Json, *, bid: bool, storage_gb: float, limit: int) -> Rows: ...
    def create(self, ask_id: int, body: Json, secrets: tuple[str, ...] = ()) -> str: ...
    def destroy(self, instance_id: str, *, patience: float | None = None) -> None: ...
    def attach_key(self, instance_id: str, public_key: str) -> None: ...
    def charges(self, since: datetime, until: datetime) -> Iterable[Json]: ...
    def user(self) -> Json: ...
    def close(self) -> None: ...


Connect = Callable[[Account], Client]


@dataclass
class _Watched:
    """What one look at an instance cannot tell."""

    words: dict[str, None] = field(default_factory=dict)  # of its boot; one that comes again is no progress
    lost_since: datetime | None = None


class VastProvider(FixedRates):
    """Implements Provider. Safe between threads. `sleep` and `patience` are how short waits for a turn are spent."""

    name = "vast"

    def __init__(
        self,
        settings: Settings,
        *,
        connect: Connect | None = None,
        sleep: Callable[[float], None] = time.sleep,
        patience: float | None = None,
    ) -> None:
        self._settings = settings
        self._connection = Connection(connect or self._over_http)
        self._sleep, self._patience = sleep, patience
        self._whose = Whose(settings.now)
        self._lock = threading.Lock()
        self._instances = Instances(settings.now)
        self._kept: dict[OfferQuery, tuple[Offers, datetime]] = {}
        self._rented: set[int] = set()  # asks: each can be rented once
        self._made = MadeNames()
        self._watched: dict[str, _Watched] = {}
        self._credit: tuple[Decimal | None, datetime] | None = None
        self.traits = Traits(
            is_container=True,
            has_spot=True,
            watch_seconds=2.0,
            boot_seconds=600.0,
            usual_boot=60.0,
            terminate_seconds=4.0,
            bill_seconds=11 * 60.0,
            simulated=account.read(settings.env).is_simulated,
            self_destruct=pods.SELF_DESTRUCT,
            console="https://cloud.vast.ai/instances/",
        )

    def unusable(self) -> str | None:
        return account.read(self._settings.env).problem

    def account(self) -> str:
        """Needs the permission user_read."""
        return self._whose.account(account.read(self._settings.env), self._user_id)

    def check(self) -> Check:
        """The key and its permissions by a list of the instances, and the credit."""
        if (problem := self.unusable()) is not None:
            return Check(problems=(problem,))
        client = self._open()
        try:
            count = len(self._in_turn(client.instances))
        except Throttled as error:
            return Check(notes=(f"the account was not looked at: {error}",))
        except ProviderError as error:
            return Check(problems=(str(error),))
        listed = f"{count} instance{'' if count == 1 else 's'} in the account"
        try:
            credit = offers.money(self._in_turn(client.user).get("credit"))
        except Throttled as error:
            return Check(notes=(listed, f"the credit is not known: {error}"))
        except AuthFailed:
            return Check(notes=(listed, "the credit is not known: the key may not see it (permission user_read)"))
        except ProviderError as error:
            return Check(problems=(str(error),), notes=(listed,))
        return _funds(credit, listed)

    def offers(self, query: OfferQuery) -> Offers:
        """Verified hosts with a port for SSH, cheapest first; prices are public."""
        found = [offer for bid in offers.at_bid(query) for offer in self._market(offers.on_market(query, bid=bid))]
        return Offers(offer for offer in found if Ask.of(offer.offer_id).id not in self._rented)

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        client = self._open()
        if (made := self.find(request.name, offer)) is not None:
            return made
        self._made.refuse_another(request.name, provider=self.name)
        ask = Ask.of(offer.offer_id)
        body = mapping.create_body(offer, request, now=self._settings.now())
        try:
            instance_id = client.create(ask.id, body, mapping.secrets(request))
        except (OfferGone, Ambiguous):
            self._rented.add(ask.id)
            self._instances.expire()
            raise
        self._rented.add(ask.id)
        self._made.add(request.name, instance_id)
        self._attach(client, instance_id, request.public_key)
        return self._affordable(client, self._describe(client, instance_id, request), request)

    def get(self, instance_id: str) -> Instance:
        if not instance_id.isdecimal():
            raise NotFound(f"Vast.ai has no instance {instance_id!r}: an id is a number", provider=self.name)
        return self._instance(self._instances.get(self._open(), instance_id))

    def find(self, name: str, offer: Offer) -> Instance | None:  # noqa: ARG002
        """By label, in a list that is asked for now: an older one may be from before the create."""
        for row in self._open().instances({"label": {"eq": name}}):
            if row.get("label") == name:
                self._instances.put(row)
                return self._instance(row)
        return self._made.find(name, self.get)

    def list(self, owner: str) -> Sequence[Instance]:
        rows = self._instances.all(self._open())
        return [self._instance(row) for row in rows if mapping.owner_of(row) == owner]

    def terminate(self, instance_id: str) -> None:
        """Destroy: what is only stopped is billed for its disk, until the account is empty."""
        if not instance_id.isdecimal():
            return
        try:
            self._open().destroy(instance_id)
        except NotFound:
            pass
        finally:
            self._instances.expire(instance_id, ending=True)

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        """A bill goes by whole days. It is the only thing that knows an instance that is gone."""
        now = self._settings.now()
        start = min(since, instance.created_at).replace(hour=0, minute=0, second=0, microsecond=0)
        rows = self._open().charges(start, now + DAY)
        mine = [row for row in rows if row.get("source") == f"instance-{instance.id}"]
        if not mine:
            return ()
        gone = is_gone(lambda: self.get(instance.id))
        return mapping.charges(mine, instance, since=since, gone=gone, now=now)

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()

    def _open(self) -> Client:
        """The client for the key as it is now."""
        return self._connection.to(account.read(self._settings.env))

    def _user_id(self) -> str:
        if not (found := sent.whole(self._open().user().get("id"))):
            raise Unreachable("Vast.ai does not say whose the key is", provider=self.name)
        return str(found)

    def _in_turn(self, ask: Callable[[], Heard]) -> Heard:
        """Once more after a while: that another process of the same key has just asked says nothing of the account."""
        try:
            return ask()
        except Throttled as error:
            self._sleep(min(error.after, CHECK_PATIENCE))
            return ask()

    def _over_http(self, wanted: Account) -> Client:
        from providers.vast.client import PATIENCE
        from providers.vast.client import Client as HttpClient

        patience = PATIENCE if self._patience is None else self._patience
        return HttpClient(wanted, self._settings.now, sleep=self._sleep, patience=patience)

    # -- offers -------------------------------------------------------------------------------------------------------

    def _market(self, query: OfferQuery) -> Offers:
        """What was found not long ago, or now. An older answer is served when the searches of this minute are used."""
        now = self._settings.now()
        kept, at = self._kept.get(query, (Offers(), None))
        age = None if at is None else now - at
        if age is not None and timedelta() <= age < OFFERS_KEPT:
            return kept
        try:
            found = Offers(self._search(query))
        except Throttled:
            if age is not None and timedelta() <= age < OFFERS_TOLERABLE:
                return kept
            raise
        with self._lock:
            recent = {one: seen for one, seen in self._kept.items() if now - seen[1] < OFFERS_TOLERABLE}
            self._kept = {**recent, query: (found, now)}
        return found

    def _search(self, query: OfferQuery) -> Iterator[Offer]:
        """Page by page: a search gives 64 rows at most, and the next page begins at the last one's price."""
        bid, seen, fitting, least = query.spot is True, set[str](), 0, None
        for _ in range(MOST_PAGES):
            rows = self._page(query, least, bid=bid, is_first=least is None)
            at = self._settings.now()
            found = [(row, offers.offer(row, bid=bid, at=at)) for row in rows]
            new = [(row, offer) for row, offer in found if offer is not None and offer.offer_id not in seen]
            for row, offer in new:
                seen.add(offer.offer_id)
                if offers.is_wanted(row, query, at) and offer.unfit(query) is None:
                    fitting += 1
                    yield offer
            least = rows[-1].get("dph_total") if rows else None
            if len(rows) < offers.MOST_ROWS or not new or fitting >= ENOUGH_OFFERS or least is None:
                return
            if query.max_usd_per_hour is not None and all(one.usd_per_hour > query.max_usd_per_hour for _, one in new):
                return

    def _page(self, query: OfferQuery, least: Any, *, bid: bool, is_first: bool) -> Rows:
        try:
            return self._open().search(
                offers.filters(query, least_total=least),
                bid=bid,
                storage_gb=offers.disk_gb(query),
                limit=offers.MOST_ROWS,
            )
        except Throttled:
            if is_first:
                raise
            return []

    # -- instances ----------------------------------------------------------------------------------------------------

    def _attach(self, client: Client, instance_id: str, public_key: str) -> None:
        """The machine starts with the key already; this is for when Vast.ai writes its file of keys anew."""
        if not public_key:
            return
        try:
            client.attach_key(instance_id, public_key)
        except ProviderError as error:
            log.info("vast: the key was not attached to %s: %s", instance_id, error)

    def _describe(self, client: Client, instance_id: str, request: LaunchRequest) -> Instance:
        """What was just made. It may not say yet whose it is; that it exists is certain."""
        try:
            row = client.instance(instance_id, patience=DESCRIBE_PATIENCE)
            made = self._instance(row)
        except (ProviderError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            self._instances.expire()
            text = f"Vast.ai made {instance_id} and does not describe it: {error}"
            raise Ambiguous(text, created_id=instance_id, provider=self.name) from error
        self._instances.put(row)
        return replace(
            made,
            name=request.name,
            owner=request.owner,
            run_id=request.run_id,
            attempt=request.attempt,
            deadline=made.deadline or request.deadline,
        )

    def _affordable(self, client: Client, made: Instance, request: LaunchRequest) -> Instance:
        """It is ended, and looked for, within this call: their turns are waited for."""

        def end() -> None:
            self._instances.expire(made.id, ending=True)
            client.destroy(made.id, patience=DESCRIBE_PATIENCE)

        def look() -> Json:
            return client.instance(made.id, patience=DESCRIBE_PATIENCE)

        return affordable(made, request, cloud="Vast.ai", end=end, look=look)

    def _instance(self, row: Json) -> Instance:
        now, instance_id = self._settings.now(), str(row["id"])
        watched = self._watched.setdefault(instance_id, _Watched())
        found = standing(row, now)
        found = _debounced(found, watched, now)
        if found.by_cloud:
            found = without_credit(found, self._credit_left())
        progress = _progress(row, found, watched)
        return mapping.instance(row, found, now=now, progress=progress)

    def _credit_left(self) -> Decimal | None:
        """None when nobody says."""
        now = self._settings.now()
        if self._credit is None or not timedelta() <= now - self._credit[1] < CREDIT_KEPT:
            try:
                credit = offers.money(self._open().user().get("credit"))
            except ProviderError as error:
                log.info("vast: the credit is not known: %s", error)
                credit = None
            self._credit = (credit, now)
        return self._credit[0]


def _debounced(found: Standing, watched: _Watched, now: datetime) -> Standing:
    """An `exited` that is read once is often wrong: it counts when it is still there a while later."""
    if not found.is_lost:
        watched.lost_since = None
        return found
    watched.lost_since = watched.lost_since or now
    if now - watched.lost_since >= LOST_AFTER:
        return found
    return replace(found, status=InstanceStatus.UNKNOWN, detail=f"{found.detail} (seen for the first time)")


def _progress(row: Json, found: Standing, watched: _Watched) -> str:
    """Words that were not there before. A host that says the same two things in turn gets nowhere."""
    said = str(row.get("actual_status") or "provisioning")
    words = ": ".join(filter(None, (said, message(row))))
    if not found.is_lost:
        watched.words.setdefault(words)
    return next(reversed(watched.words), words)


def _funds(credit: Decimal | None, listed: str) -> Check:
    if credit is None:
        return Check(notes=(listed, "the credit is not known"))
    said = f"${credit:.2f} of credit"
    if credit <= 0:
        text = f"the Vast.ai account has {said}: nothing can be rented; add some at https://cloud.vast.ai/billing/"
        return Check(problems=(text,), notes=(listed,))
    if credit < LITTLE_CREDIT:
        said += ": at 0 Vast.ai stops every machine, and later deletes them"
    return Check(notes=(listed, said))
