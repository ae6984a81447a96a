"""RunpodProvider: pods, which are containers made from the job's image.

Owns which call is made when and what follows from its answer. The wire is client.py, the words are offers.py and
mapping.py. RunPod knows no idempotency and pods' names are not unique: a create looks for its name first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from providers import pods
from providers.accounts import Account, Connection, Whose
from providers.base import (
    Charge,
    Check,
    FixedRates,
    Instance,
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
    NoCapacity,
    NotFound,
    ProviderError,
    Rejected,
    Unreachable,
)
from providers.made import MadeNames, affordable, is_gone
from providers.runpod import account, mapping
from providers.runpod.offers import (
    COMMUNITY,
    MOST_GPUS,
    SECURE,
    Choice,
    catalog_offers,
    cpu_offers,
    hardware_of,
    public_offers,
)
from providers.runpod.snapshot import Pods, Source

CATALOG_KEPT = timedelta(seconds=30)  # one quote after the other must not use up the rate limit
HARDWARE_KEPT = timedelta(minutes=30)
NO_ADDRESS_KEPT = timedelta(hours=1)  # the next machine of that kind would likely be of the same hosts
CANDIDATES = 3  # so many different offers refused in the same words: it is the request

log = logging.getLogger("gpujob.runpod")

Json = dict[str, Any]
Rows = list[Json]


class Client(Source, Protocol):
    """What this provider needs of client.Client."""

    def create_pod(self, body: Json, secrets: Iterable[str] = ()) -> Json: ...
    def delete_pod(self, pod_id: str) -> None: ...
    def registries(self) -> Rows: ...
    def create_registry(self, name: str, username: str, password: str) -> str: ...
    def delete_registry(self, registry_id: str) -> None: ...
    def gpus(self, *, cloud: str, count: int) -> Rows: ...
    def cpus(self) -> Rows: ...
    def billing(self, pod_id: str, *, start: str, end: str) -> Rows: ...
    def balance(self) -> Json: ...
    def user(self) -> str: ...
    def public_gpus(self, *, secure: bool, count: int) -> Rows: ...
    def close(self) -> None: ...


Connect = Callable[[Account], Client]


class RunpodProvider(FixedRates):
    """Implements Provider. Safe between threads."""

    name = "runpod"

    def __init__(self, settings: Settings, *, connect: Connect | None = None) -> None:
        self._settings = settings
        self._connection = Connection(connect or self._over_http)
        self._whose = Whose(settings.now)
        self._pods = Pods(settings.now)
        self._kept: dict[tuple[object, ...], tuple[Rows, datetime]] = {}
        self._made = MadeNames()
        self._furthest: dict[str, tuple[int, str]] = {}
        self._refused: dict[str, set[str]] = {}  # what a create was refused with, for which offers
        self._addressless: dict[str, datetime] = {}  # GPU ids whose community pods got no address
        self.traits = Traits(
            is_container=True,
            has_spot=False,
            watch_seconds=2.0,
            boot_seconds=300.0,  # a pod may run for ever without an address, and bill: field practice is 2 to 5 minutes
            usual_boot=60.0,
            bill_seconds=2 * 3600.0 + 60.0,
            terminate_seconds=5.0,
            simulated=account.read(settings.env).is_simulated,
            self_destruct=pods.SELF_DESTRUCT,
            console="https://console.runpod.io/pods",
        )

    def unusable(self) -> str | None:
        return account.read(self._settings.env).problem

    def account(self) -> str:
        return self._whose.account(account.read(self._settings.env), lambda: self._open().user())

    def check(self) -> Check:
        """The key and its permissions by a list of the pods; the balance, which is a note, while that is under way."""
        if (problem := self.unusable()) is not None:
            return Check(problems=(problem,))
        client = self._open()
        with ThreadPoolExecutor(max_workers=1) as pool:
            asked = pool.submit(client.balance)  # its SDK takes two seconds to import
            try:
                count = len(client.pods())
            except ProviderError as error:
                return Check(problems=(str(error),))
        credit, note = _balance(asked)
        notes = (f"{count} pod{'' if count == 1 else 's'} in the account", note)
        if credit is not None and credit <= 0:
            return Check(problems=("the RunPod account has no credit: https://console.runpod.io",), notes=notes)
        return Check(notes=notes)

    def offers(self, query: OfferQuery) -> Offers:
        """The catalog with what is in stock now; without a key the public prices."""
        if query.spot is True or query.gpu_count > MOST_GPUS:
            return Offers()  # RunPod has taken spot pods out of its service (docs of 2026-05-06, 500 since 2026-09)
        keyless = self.unusable() is not None
        if query.gpu_count == 0:
            return Offers() if keyless else self._cpu_offers(query)
        found: list[Offer] = []
        for cloud in (SECURE, COMMUNITY):
            found += self._public_offers(cloud, query) if keyless else self._catalog_offers(cloud, query)
        return Offers(offer for offer in found if not self._lacks_addresses(offer)).fitting(query)

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        client = self._open()
        if (made := self.find(request.name, offer)) is not None:
            return made
        self._made.refuse_another(request.name, provider=self.name)
        registry = self._login(client, request)
        body = mapping.create_body(offer, request, registry=registry, now=self._settings.now())
        try:
            pod = client.create_pod(body, mapping.secrets(request))
        except (Ambiguous, Unreachable):
            self._pods.expire()
            raise  # the pod may exist and need the login: it is ended with the pod, or shown as left over
        except ProviderError as error:
            self._end_login(client, registry)
            raise self._judged(error, offer) from error
        self._refused.clear()
        self._pods.put(pod)
        self._made.add(request.name, pod["id"])
        made = self._instance(pod)
        return affordable(
            made, request, cloud="RunPod", end=lambda: self.terminate(made.id), look=lambda: self.get(made.id)
        )

    def get(self, instance_id: str) -> Instance:
        client = self._open()
        if instance_id.startswith(mapping.REGISTRY):
            return self._leftover(client, instance_id)
        if not instance_id:
            raise NotFound("RunPod has no pod without an id", provider=self.name)
        pod = self._pods.get(client, instance_id)
        if mapping.is_over(pod):
            raise NotFound(f"RunPod says that {instance_id} is TERMINATED", provider=self.name)
        return self._instance(pod)

    def find(self, name: str, offer: Offer) -> Instance | None:  # noqa: ARG002
        """By name in a list that is asked for now: an older one may be from before the create."""
        client = self._open()
        for pod in self._pods.all(client, fresh=True):
            if pod.get("name") == name and not mapping.is_over(pod):
                return self._instance(pod)
        return self._made.find(name, self.get)

    def list(self, owner: str) -> Sequence[Instance]:
        client = self._open()
        listed = [pod for pod in self._pods.all(client) if not mapping.is_over(pod)]
        mine = [self._instance(pod) for pod in listed if mapping.owner_of(pod) == owner]
        names = {str(pod.get("name")) for pod in listed}
        return [*mine, *(left for left in self._leftovers(client) if left.owner == owner and left.name not in names)]

    def terminate(self, instance_id: str) -> None:
        """A 204 is a promise: what `get` says afterwards counts. One that was kept ten hours late has been reported."""
        client = self._open()
        registry = instance_id.removeprefix(mapping.REGISTRY)
        if registry != instance_id:
            return self._end_login(client, registry, quietly=False)
        if not instance_id:
            return None  # DELETE of all pods is no wish of anybody's
        known = self._pods.known(instance_id) or {}
        try:
            client.delete_pod(instance_id)
        except NotFound:
            pass
        except ProviderError:
            self._pods.expire(instance_id)
            raise
        self._pods.expire(instance_id, ending=True)
        if mapping.owner_of(known):
            self._end_login(client, known.get("registry"))
        return None

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        """In buckets of an hour, however short the pod lived."""
        now = self._settings.now()
        start = min(since, instance.created_at).replace(minute=0, second=0, microsecond=0)
        records = self._open().billing(instance.id, start=_rfc3339(start), end=_rfc3339(now))
        if not records:
            return ()
        gone = is_gone(lambda: self.get(instance.id))
        return mapping.charges(records, instance, since=since, gone=gone, now=now)

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()

    def _open(self, *, public: bool = False) -> Client:
        """The client for the key as it is now. With `public` also without one."""
        wanted = account.read(self._settings.env)
        if wanted.problem is not None and not public:
            raise AuthFailed(wanted.problem, provider=self.name)
        return self._connection.to(wanted)

    def _over_http(self, wanted: Account) -> Client:
        from providers.runpod.client import Client as HttpClient

        return HttpClient(wanted, self._settings.now)

    def _keep(self, key: tuple[object, ...], time: timedelta, ask: Callable[[], Rows]) -> tuple[Rows, datetime]:
        """What was asked not long ago, with the time of it."""
        now = self._settings.now()
        rows, at = self._kept.get(key, ([], None))
        if at is None or not timedelta() <= now - at < time:
            rows, at = ask(), now
            self._kept[key] = (rows, at)
        return rows, at

    def _public_offers(self, cloud: str, query: OfferQuery) -> Iterable[Offer]:
        rows, at = self._keep(("public", cloud, query.gpu_count), CATALOG_KEPT, lambda: self._public(cloud, query))
        return public_offers(rows, query, cloud=cloud, at=at)

    def _catalog_offers(self, cloud: str, query: OfferQuery) -> Iterable[Offer]:
        """v2 does not say how many vCPUs and how much memory come with a GPU; without GraphQL it is not known."""
        count = query.gpu_count
        rows, at = self._keep(("gpus", cloud, count), CATALOG_KEPT, lambda: self._open().gpus(cloud=cloud, count=count))
        try:
            public, _ = self._keep(("hardware", cloud, count), HARDWARE_KEPT, lambda: self._public(cloud, query))
        except ProviderError as error:
            log.info("runpod: GraphQL does not say what comes with a GPU: %s", error)
            public = []
            self._kept[("hardware", cloud, count)] = (public, self._settings.now())
        return catalog_offers(rows, query, cloud=cloud, hardware=hardware_of(public), at=at)

    def _public(self, cloud: str, query: OfferQuery) -> Rows:
        return self._open(public=True).public_gpus(secure=cloud == SECURE, count=query.gpu_count)

    def _cpu_offers(self, query: OfferQuery) -> Offers:
        try:
            rows, at = self._keep(("cpus",), CATALOG_KEPT, self._open().cpus)
        except NotFound:
            return Offers()
        return Offers(cpu_offers(rows, query, at=at)).fitting(query)

    def _lacks_addresses(self, offer: Offer) -> bool:
        choice = Choice.of(offer.offer_id)
        until = self._addressless.get(choice.id)
        return choice.kind == "community" and until is not None and self._settings.now() < until

    def _judged(self, error: ProviderError, offer: Offer) -> ProviderError:
        """RunPod's documented rule: after a 400 the next candidate; when every one gets it, the request is wrong.

        https://docs.runpod.io/api-reference-v2/pods/create-a-pod, seen 2026-08: capacity has no code of its own.
        """
        from providers.runpod.client import NoPlace

        if not isinstance(error, NoPlace):
            return error
        offers = self._refused.setdefault(str(error), set())
        offers.add(offer.offer_id)
        if len(offers) >= CANDIDATES:
            return Rejected(f"{error} ({len(offers)} different offers in a row: it is the request)", provider=self.name)
        return NoCapacity(f"{error} (perhaps for want of capacity)", provider=self.name)

    def _instance(self, pod: Json) -> Instance:
        """Progress only goes on: the runtime comes and goes with RunPod's telemetry, and that is no progress."""
        pod_id, now = str(pod["id"]), self._settings.now()
        furthest = max(self._furthest.get(pod_id, (0, "")), mapping.stage(pod), key=lambda stage: stage[0])
        self._furthest[pod_id] = furthest
        instance = mapping.instance(pod, now=now, progress=furthest[1])
        gpu = pod.get("gpu")
        if mapping.lacks_address(pod) and isinstance(gpu, dict):
            self._addressless[str(gpu.get("id"))] = now + NO_ADDRESS_KEPT
        return instance

    def _login(self, client: Client, request: LaunchRequest) -> str | None:
        """The id of the login for the image's registry; an earlier create may have made it. Nothing was rented yet."""
        if request.registry is None:
            return None
        name = mapping.registry_name(request)
        for made in client.registries():
            if made.get("name") == name and made.get("id"):
                return str(made["id"])
        return client.create_registry(name, request.registry.username, request.registry.password)

    def _end_login(self, client: Client, registry: Any, *, quietly: bool = True) -> None:
        """It costs nothing: a failure must not stand in the way of ending pods, and `list` shows what is left."""
        if not registry:
            return
        try:
            client.delete_registry(str(registry))
        except NotFound:
            pass
        except ProviderError as error:
            if not quietly:
                raise
            log.warning("runpod: the registry login %s is left: %s", registry, error)

    def _leftovers(self, client: Client) -> Sequence[Instance]:
        try:
            registries = client.registries()
        except AuthFailed:
            return []  # a key that may not see them has not made any
        found = (mapping.leftover(registry, now=self._settings.now()) for registry in registries)
        return [left for left in found if left is not None]

    def _leftover(self, client: Client, instance_id: str) -> Instance:
        for left in self._leftovers(client):
            if left.id == instance_id:
                return left
        raise NotFound(f"RunPod has no registry login {instance_id}", provider=self.name)


def _balance(asked: Future[Json]) -> tuple[Decimal | None, str]:
    """The credit, and a note: pods can be rented without GraphQL, whatever is wrong with it."""
    try:
        said = asked.result()
        credit = Decimal(str(said["clientBalance"]))
        spent, most = Decimal(str(said["currentSpendPerHr"])), said["spendLimit"]
        return credit, f"${credit:.2f} of credit; ${spent:.2f} per hour is being spent, ${most} at most"
    except Exception as error:  # also a bug of the SDK's
        return None, f"the balance is not known: {error if isinstance(error, ProviderError) else type(error).__name__}"


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
