"""The contract between the orchestrator and a cloud: the Provider protocol and the values that cross it.

A provider knows one cloud. It knows nothing of jobs, runs in the store, or money spent so far.
Differences between clouds are data in `Traits` and `Meter`; nobody asks for a provider's name to decide anything.
Money is Decimal US dollars, time is aware UTC, sizes are bytes unless the name says gb (10**9 bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Protocol

GB = 10**9

Now = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a provider may look at: gpujob's home, the environment, the clock. Injected, so tests need neither."""

    home: Path
    env: Mapping[str, str]
    now: Now


class Runs(StrEnum):
    """In which states of a machine a meter runs."""

    EXISTS = "exists"  # from the accepted create to "not found"
    RUNNING = "running"  # only while the cloud says running


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one unit of a meter costs from a moment on, until the next rate."""

    since: datetime
    usd_per_unit: Decimal
    source: str


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One line of a cloud's bill, by the cloud's own rules.

    `units_per_hour` says how many `unit`s an hour of the interval consumes (compute: 1 hour; 40 GB of disk on a
    720-hour month: 40/720 GB-month). Time is rounded up to `granularity_seconds`, and is at least `minimum_seconds`:
    the meter's whole time, however often its rate has changed meanwhile.
    """

    name: str  # compute, disk, stopped_disk, address, traffic_in, traffic_out
    unit: str  # hour, GB-month, GB
    usd_per_unit: Decimal  # when the machine was rented
    units_per_hour: Decimal = Decimal(1)
    runs: Runs = Runs.EXISTS
    granularity_seconds: int = 1
    minimum_seconds: int = 0
    source: str = ""
    moves: bool = False  # the cloud may change its rate while the machine runs: `Provider.rates` tells
    changes: tuple[Rate, ...] = ()  # its rates since then, oldest first

    @property
    def usd_per_hour(self) -> Decimal:
        """At its newest rate."""
        return (self.changes[-1].usd_per_unit if self.changes else self.usd_per_unit) * self.units_per_hour


@dataclass(frozen=True, kw_only=True)
class Traits:
    """How a cloud differs, as data.

    is_container      a rented machine is itself a container made from the job's image; otherwise it is a host with
                      (perhaps) Docker, on which the agent starts the container.
    owned             the machine belongs to the user: it does not boot, and a job whose image cannot be had there may
                      run as a process in a virtual environment (design note 0003).
    has_spot          spot or interruptible machines exist.
    watch_seconds     how often a running job is looked at when nothing happens.
    boot_seconds      how long a boot may take without any progress.
    usual_boot        how many seconds a boot usually takes: what is paid before the job starts.
    terminate_seconds how long to wait between two calls of `terminate`: the second goes on with what the first began.
    bill_seconds      how long after its end a machine's bill may be final; there is no use in asking before.
    simulated         the endpoint is this computer's: a rehearsal, whose GPUs say that they are simulated.
    self_destruct     argv that ends the machine from inside, as the job's user, with no key of the account; () where
                      there is none. It is tried again until the machine is gone.
    console           where a person looks for the machines: a page, or words.
    preemption_notice a command for sh that prints something when the cloud is about to take the machine away and
                      nothing otherwise; "" where there is no notice.
    """

    is_container: bool
    owned: bool = False
    has_spot: bool = False
    watch_seconds: float = 2.0
    boot_seconds: float = 600.0
    usual_boot: float = 0.0
    terminate_seconds: float = 20.0
    bill_seconds: float = 60.0
    simulated: bool = False
    self_destruct: tuple[str, ...] = ()
    preemption_notice: str = ""
    console: str = ""


@dataclass(frozen=True, kw_only=True)
class OfferQuery:
    """What a job needs, in the cloud's terms. None and empty mean "any"."""

    gpus: tuple[str, ...] = ()  # canonical names in order of preference; empty with gpu_count > 0: any GPU
    gpu_count: int = 0
    gpu_memory_gb: float | None = None  # least memory per GPU
    vcpus: float | None = None
    memory_gb: float | None = None
    disk_gb: float | None = None
    regions: tuple[str, ...] = ()
    spot: bool | None = False  # None: both
    reliability: float | None = None
    max_usd_per_hour: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Something that could be rented now, priced. `gpu` is canonical, or as the cloud wrote it when unknown."""

    provider: str
    offer_id: str
    region: str
    gpu: str | None
    gpu_count: int
    gpu_memory_gb: float | None
    vcpus: float
    memory_gb: float
    disk_gb: float | None
    spot: bool
    usd_per_hour: Decimal
    most_usd_per_hour: Decimal | None = None  # its rate moves, and never costs more; None: it does not move
    disk_usd_per_gb_month: Decimal = Decimal(0)
    ingress_usd_per_gb: Decimal = Decimal(0)
    egress_usd_per_gb: Decimal = Decimal(0)
    other_usd_per_hour: Decimal = Decimal(0)  # billed with the machine, not part of its rate: a public address
    reliability: float | None = None
    cuda: str | None = None
    location: str = ""
    machine_type: str = ""  # what the cloud calls such machines, which are alike; "" where each is one of its own
    host_id: str = ""  # the physical machine, where the cloud names it: what BadHost remembers
    fetched_at: datetime
    source: str

    @property
    def usd_per_gpu_hour(self) -> Decimal | None:
        return self.usd_per_hour / self.gpu_count if self.gpu_count else None

    def unfit(self, query: OfferQuery) -> str | None:
        """Why this offer does not fit, in words for a person; None when it fits."""
        return next(self._shortcomings(query), None)

    def shortcomings(self, query: OfferQuery) -> tuple[str, ...]:
        """All that keeps it from fitting, in words for a person."""
        return tuple(self._shortcomings(query))

    def _shortcomings(self, query: OfferQuery) -> Iterator[str]:
        if query.gpu_count and self.gpu_count < query.gpu_count:
            yield f"has {self.gpu_count} GPU{'' if self.gpu_count == 1 else 's'}, {query.gpu_count} wanted"
        if query.gpu_count and query.gpus and self.gpu not in query.gpus:
            yield f"has {self.gpu}, {' or '.join(query.gpus)} wanted"
        yield from _too_little("GPU memory", self.gpu_memory_gb, query.gpu_memory_gb, "GB")
        yield from _too_little("CPUs", self.vcpus, query.vcpus, "")
        yield from _too_little("memory", self.memory_gb, query.memory_gb, "GB")
        yield from _too_little("disk", self.disk_gb, query.disk_gb, "GB")
        if query.regions and self.region not in query.regions:
            yield f"is in {self.region}"
        if query.spot is not None and self.spot != query.spot:
            yield "is a spot offer" if self.spot else "is not a spot offer"
        yield from _too_little("reliability", self.reliability, query.reliability, "")
        if query.max_usd_per_hour is not None and self.usd_per_hour > query.max_usd_per_hour:
            yield f"costs ${self.usd_per_hour} per hour, more than ${query.max_usd_per_hour}"


class Offers(tuple[Offer, ...]):
    """Offers with verbs. Order is the provider's until ranked by the orchestrator."""

    def fitting(self, query: OfferQuery) -> Offers:
        return Offers(offer for offer in self if offer.unfit(query) is None)

    def cheapest(self) -> Offer | None:
        return min(self, key=lambda offer: (offer.usd_per_hour, offer.offer_id), default=None)


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """Who may pull the image. The password is never shown."""

    server: str  # docker.io, ghcr.io, ...
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """A machine to be made. `name` is unique and already committed to the store; the cloud gets it as tag or label.

    `host_key` is a private ed25519 key in OpenSSH's format, made for this machine: where the cloud lets us, the machine
    uses it, and `Instance.access.host_keys` says so. `env` and `image` are for machines that are containers.
    """

    name: str
    owner: str
    run_id: str
    attempt: int
    deadline: datetime  # the machine ends itself then, whatever happened to everybody else
    disk_gb: float
    image: str | None = None
    registry: RegistryLogin | None = None
    public_key: str = ""  # OpenSSH form, of this run's own key pair
    host_key: str = field(default="", repr=False)
    max_usd_per_hour: Decimal | None = None  # more than this is never paid: neither at first, nor when the rate moves
    env: Mapping[str, str] = field(default_factory=dict)


class InstanceStatus(StrEnum):
    PENDING = "pending"  # accepted, nothing there yet
    BOOTING = "booting"
    RUNNING = "running"
    STOPPED = "stopped"  # exists, may still bill
    TERMINATING = "terminating"  # its cloud says that it ends; that we asked for its end is not enough
    FAILED = "failed"  # the cloud says that it will not come up
    PREEMPTED = "preempted"  # taken away by the cloud; may still bill for storage
    UNKNOWN = "unknown"  # a word we do not know: see `detail`


@dataclass(frozen=True, kw_only=True)
class LocalAccess:
    """Run commands as child processes on this machine. `directory` is the machine's own; `env` marks what is its."""

    directory: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SshAccess:
    """Run commands over SSH. Only `host_keys` are accepted; when empty, the first one seen is pinned for the instance.

    `key_path` is the user's own key for a machine of theirs; None is the run's own key, or with `user_keys` whatever
    the user's ssh-agent and default keys open.
    """

    host: str
    port: int
    user: str
    directory: str
    key_path: str | None = None
    user_keys: bool = False
    host_keys: tuple[str, ...] = ()  # "ssh-ed25519 AAAA..."
    python: str = "python3"
    env: Mapping[str, str] = field(default_factory=dict)


Access = LocalAccess | SshAccess


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A machine as the cloud describes it now."""

    id: str
    name: str
    provider: str
    owner: str
    run_id: str
    attempt: int
    status: InstanceStatus
    detail: str = ""  # the cloud's own words
    progress: str = ""  # changes whenever a boot makes progress
    access: Access | None = None  # None until it can be reached
    other_access: tuple[Access, ...] = ()  # further ways that lead there, tried when the first does not
    region: str = ""
    host_id: str = ""
    created_at: datetime
    deadline: datetime | None = None
    usd_per_hour: Decimal | None = None  # as the cloud says it bills; None where it does not say
    meters: tuple[Meter, ...] = ()  # with the rates of rent time


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What the cloud says that it billed for one meter over one interval."""

    meter: str
    quantity: Decimal
    unit: str
    usd_per_unit: Decimal
    usd: Decimal
    start: datetime
    end: datetime
    source: str
    final: bool  # False: the cloud may still change it


@dataclass(frozen=True, kw_only=True)
class Check:
    """Whether a cloud can be used as things are. `problems` say what is wrong and what to do; `notes` what is good."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # the account, its balance, what could be rented

    @property
    def usable(self) -> bool:
        return not self.problems


class Provider(Protocol):
    """One cloud. Every call returns or raises within its own deadline; none waits for a machine."""

    name: str
    traits: Traits

    def unusable(self) -> str | None:
        """Why nothing can be rented as things are set up (no key), without asking the cloud; None when it may go."""
        ...

    def account(self) -> str:
        """Whose the credentials are that are used now: short, the same for ever, not secret.

        A cloud says "not found" of another account's machines, too: that word counts in the account that made them.
        "" where there are no accounts, or where these credentials may not say it. Asked once for each credentials, and
        kept in memory. Raises Unreachable and Throttled.
        """
        ...

    def check(self) -> Check:
        """Ask the cloud whether we could rent there. Makes nothing, costs nothing, and raises nothing."""
        ...

    def offers(self, query: OfferQuery) -> Offers:
        """What could be rented now and fits, priced. Raises Unreachable, AuthFailed, Throttled, Rejected.

        Where a cloud's prices are public they are given without an account, too.
        """
        ...

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        """Ask for a machine; returns when the cloud has accepted, never waits for a boot.

        The same name twice yields the same machine or raises, as far as the cloud can know it: a name that it shows
        is not made again. Anything but a clean yes or a clean no
        is Ambiguous. Raises NoCapacity, OfferGone, QuotaExceeded, AuthFailed, NoFunds, Throttled, Ambiguous,
        Unreachable (nothing was sent), Rejected.
        """
        ...

    def get(self, instance_id: str) -> Instance:
        """The machine as it is now. Raises NotFound when the cloud says it is gone; an unknown state is a value."""
        ...

    def find(self, name: str, offer: Offer) -> Instance | None:
        """The machine of that name that a create from this offer has made; None when the cloud shows none (yet).

        Never None because something did not answer: that raises.
        """
        ...

    def list(self, owner: str) -> Sequence[Instance]:
        """Everything of this owner in every region, half-made machines too."""
        ...

    def terminate(self, instance_id: str) -> None:
        """Ask for the end of it; idempotent, returns when asked. It is gone when `get` raises NotFound, not before."""
        ...

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        """What the cloud says it billed for this machine, also when it is gone; empty where the cloud does not say."""
        ...

    def rates(self, offer: Offer, since: datetime) -> Mapping[str, Sequence[Rate]]:
        """What the meters that move cost from `since` until now, by name and oldest first, by the cloud's own rule.

        `offer` is what the machine was made from, `since` when it began to run; it may be gone by now. A meter that
        nothing is known of is not there, and the first rate may be later than `since`. Raises as `offers` does.
        """
        ...


class FixedRates:
    """Of a provider whose machines cost at their end what they cost when they were rented."""

    def rates(self, offer: Offer, since: datetime) -> Mapping[str, Sequence[Rate]]:  # noqa: ARG002
        return {}


def _too_little(what: str, has: float | None, wanted: float | None, unit: str) -> Iterable[str]:
    if wanted is not None and has is not None and has < wanted:
        yield f"has {has:g} {unit}".rstrip() + f" {what}, {wanted:g} {unit}".rstrip() + " wanted"
    if wanted is not None and has is None:
        yield f"does not say its {what}, at least {wanted:g} {unit}".rstrip() + " wanted"
