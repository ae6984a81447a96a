"""SshProvider: computers that the user owns elsewhere, each an offer, from the inventory hosts.toml.

Owns which computer is asked and what its answers mean. How machines are made there is providers/host.py; how it is
reached is client.py, which brings paramiko and is imported when a computer is first spoken to. An id is HOST/NAME.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol

from providers import gpus, host, owned, sent
from providers.base import (
    GB,
    Access,
    Charge,
    Check,
    FixedRates,
    Instance,
    LaunchRequest,
    Offer,
    OfferQuery,
    Offers,
    Settings,
    SshAccess,
)
from providers.errors import Ambiguous, BadHost, NotFound, ProviderError, Rejected, Unreachable
from providers.ssh import inventory
from providers.ssh.inventory import Host

ANSWER_SECONDS = 20.0
TERMINATE_SECONDS = host.END_SECONDS + 15
_AT_ONCE = 16

Json = dict[str, Any]


class Client(Protocol):
    """What this provider needs of client.HostClient."""

    @property
    def host(self) -> Host: ...
    @property
    def host_keys(self) -> tuple[str, ...]: ...
    @property
    def key_path(self) -> object: ...
    def ask(self, command: str, request: Json, *, seconds: float, lost: type[ProviderError] = Unreachable) -> Json: ...
    def close(self) -> None: ...


Connect = Callable[[Host], Client]


class SshProvider(FixedRates):
    """Implements Provider."""

    name = "ssh"
    traits = owned.TRAITS

    def __init__(self, settings: Settings, *, connect: Connect | None = None) -> None:
        self._settings = settings
        self._connect = connect or self._over_ssh
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def unusable(self) -> str | None:
        """A file that says something wrong is said when a computer is asked for; one that is empty is no mistake."""
        try:
            if self._hosts():
                return None
        except ProviderError:
            return None
        return f"no computer is named in {inventory.path_in(self._settings.home)}"

    def account(self) -> str:
        return ""  # a computer answers for itself, whoever asks

    def check(self) -> Check:
        """Every computer of the inventory is asked at once for its machines."""
        try:
            hosts = self._hosts()
        except ProviderError as error:
            return Check(problems=(str(error),))
        if (why := self.unusable()) is not None:
            return Check(problems=(why,))
        with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(hosts))) as pool:
            answers = list(pool.map(lambda one: self._list_on(one.name, ""), hosts))
        failed = [answer for answer in answers if isinstance(answer, ProviderError)]
        good = [one.name for one, answer in zip(hosts, answers, strict=True) if not isinstance(answer, ProviderError)]
        return Check(problems=tuple(map(str, failed)), notes=(f"{', '.join(good)} can be used",) if good else ())

    def offers(self, query: OfferQuery) -> Offers:
        """What the inventory declares; no computer is asked."""
        return Offers(offer for one in self._hosts() for offer in self._offers_of(one, query)).fitting(query)

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        client = self._client(offer.host_id, gone=Rejected)
        ids, total = client.host.gpu_ids(offer.gpu), sum(count for _, count in client.host.gpus)
        question = owned.create_request(offer, request, gpu_ids=ids, gpu_total=total)
        try:
            answer = self._ask(client, "create", question, lost=Ambiguous)
        except Ambiguous as error:
            error.created_id = f"{client.host.name}/{request.name}"  # one look there is better than one at every host
            raise
        except Unreachable as error:  # it was never asked: nothing was made there, and another computer may be on
            raise BadHost(str(error), provider=self.name) from error
        return self._instance(client, answer.get("machine"))

    def get(self, instance_id: str) -> Instance:
        client, name = self._find(instance_id)
        answer = self._ask(client, "get", {"name": name})
        if answer.get("missing"):
            raise owned.missing(name, provider=self.name, where=client.host.name)
        return self._instance(client, answer.get("machine"))

    def find(self, name: str, offer: Offer) -> Instance | None:
        """Asks the computer of the offer only: another one that is off has nothing to say about it."""
        try:
            return self.get(f"{offer.host_id}/{name}")
        except NotFound:
            return None

    def list(self, owner: str) -> Sequence[Instance]:
        """Every computer is asked at once. One that does not answer is an error: a list that lacks it would lie."""
        names = [one.name for one in self._hosts()]
        if not names:
            return []
        with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(names))) as pool:
            answers = list(pool.map(lambda name: self._list_on(name, owner), names))
        failed = [answer for answer in answers if isinstance(answer, ProviderError)]
        if failed:
            raise _worst(failed)
        return [machine for answer in answers if not isinstance(answer, ProviderError) for machine in answer]

    def terminate(self, instance_id: str) -> None:
        client, name = self._find(instance_id)
        self._ask(client, "terminate", {"name": name, "seconds": host.END_SECONDS}, seconds=TERMINATE_SECONDS)

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        client, name = self._find(instance.id)
        answer = self._ask(client, "bill", {"name": name})
        return owned.charges(answer, since=since, provider=self.name, source=f"the clock of {client.host.name}")

    def close(self) -> None:
        """Let go of every connection."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _hosts(self) -> tuple[Host, ...]:
        return inventory.read(self._settings.home, self._settings.env)

    def _offers_of(self, one: Host, query: OfferQuery) -> Iterable[Offer]:
        if query.gpu_count == 0:
            yield self._offer(one, query, None, 0)
            return
        for kind in dict.fromkeys(name for name, _ in one.gpus):
            yield self._offer(one, query, kind, min(len(one.gpu_ids(kind)), query.gpu_count))

    def _offer(self, one: Host, query: OfferQuery, gpu: str | None, count: int) -> Offer:
        """What was not declared is claimed to be what is wanted: the probe finds out before anything is shipped."""
        return Offer(
            provider=self.name,
            offer_id=f"{one.name}:{gpu}" if gpu else one.name,
            region=one.name,
            gpu=gpu,
            gpu_count=count,
            gpu_memory_gb=gpus.specification(gpu).memory_gb if gpu else None,
            vcpus=one.cpus if one.cpus is not None else query.vcpus or 0.0,
            memory_gb=one.memory / GB if one.memory is not None else query.memory_gb or 0.0,
            disk_gb=one.disk / GB if one.disk is not None else query.disk_gb,
            spot=False,
            usd_per_hour=one.price_per_hour,
            reliability=owned.RELIABILITY,
            location=one.host,
            machine_type=one.name,
            host_id=one.name,
            fetched_at=self._settings.now(),
            source="hosts.toml",
        )

    def _find(self, instance_id: str) -> tuple[Client, str]:
        host_name, slash, name = instance_id.partition("/")
        if not slash:
            raise owned.missing(instance_id, provider=self.name, where="ssh: an id is HOST/NAME; it")
        return self._client(host_name, gone=Unreachable), name

    def _client(self, host_name: str, *, gone: type[ProviderError]) -> Client:
        """The connection to a computer; made anew when the inventory says something else about it now."""
        declared = next((one for one in self._hosts() if one.name == host_name), None)
        if declared is None:
            path = inventory.path_in(self._settings.home)
            text = f"{host_name} is not in {path} (any more): only with its entry can its machines be seen and ended"
            raise gone(text, provider=self.name)
        with self._lock:
            client = self._clients.get(host_name)
            if client is None or client.host != declared:
                if client is not None:
                    client.close()
                client = self._clients[host_name] = self._connect(declared)
            return client

    def _over_ssh(self, declared: Host) -> Client:
        from providers.ssh.client import HostClient
        from providers.ssh.seen import SeenKeys

        return HostClient(declared, SeenKeys(self._settings.home / "hosts_seen.json"), self._settings.env)

    def _ask(
        self,
        client: Client,
        command: str,
        question: Json,
        *,
        seconds: float = ANSWER_SECONDS,
        lost: type[ProviderError] = Unreachable,
    ) -> Json:
        answer = client.ask(command, question, seconds=seconds, lost=lost)
        if (error := answer.get("error")) is not None:
            raise owned.refusal(error, provider=self.name, where=client.host.name)
        return answer

    def _list_on(self, host_name: str, owner: str) -> Sequence[Instance] | ProviderError:
        try:
            client = self._client(host_name, gone=Unreachable)
            answer = self._ask(client, "list", {"owner": owner})
            machines = answer.get("machines")
            if not isinstance(machines, list):
                text = f"{host_name}: its list of machines makes no sense"
                raise BadHost(text, provider=self.name)
            return [self._instance(client, machine) for machine in machines]
        except ProviderError as error:
            return error

    def _instance(self, client: Client, machine: Any) -> Instance:
        one = client.host

        def access(directory: str, env: Mapping[str, str]) -> Access:
            return SshAccess(
                host=one.host,
                port=one.port,
                user=one.user,
                directory=directory,
                key_path=str(client.key_path) if client.key_path else None,
                user_keys=client.key_path is None,
                python=one.python,
                host_keys=client.host_keys,
                env=env,
            )

        name = sent.words(machine.get("name")) if isinstance(machine, dict) else "?"
        return owned.instance(
            machine,
            provider=self.name,
            instance_id=f"{one.name}/{name}",
            region=one.name,
            host_id=one.name,
            access=access,
        )


def _worst(failed: Sequence[ProviderError]) -> ProviderError:
    """One error for several: what waiting cannot heal goes first; the text names every computer."""
    text = "; ".join(str(error) for error in failed)
    lasting = [error for error in failed if not isinstance(error, Unreachable)]
    if not lasting:
        return Unreachable(text, provider="ssh")
    first = lasting[0]
    first.args = (text,)
    return first
