"""What is rented: a contract on a part of a host, its life as a state machine on the clock, and its meters.

`actual` is what the host last said of the container, `state` whether the contract holds its GPUs, `intended` what is
wanted. Storage is billed from the first second to the destroy; GPUs only while it runs. Knows no wire format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from providers.rehearsal.bill import Bill, Rate
from providers.rehearsal.fate import Fate
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, Machines, MachineState
from providers.rehearsal.vast.launch import Launch
from providers.rehearsal.vast.market import HOURS_PER_MONTH, Host, Market, usd_rounded

PROVISIONING = timedelta(seconds=1)  # until the host says anything
LEAST_BOOT = timedelta(seconds=2)  # if the machine itself is there at once
RELAUNCH = timedelta(seconds=30)  # so long a container that was started again may still look ended
OVERBID = Decimal("1.25")

OCI_ERROR = (
    "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create "
    "failed: runc create failed: unable to start container process: error during container init: error running hook "
    "#0: nvidia-container-cli: initialization error: driver error: failed to process request: unknown"
)
_NO_SUCH_IMAGE = ("manifest unknown", "pull access denied", "no such image", "name unknown")


@dataclass(kw_only=True)
class Trouble:
    """What is to go wrong with a contract, and when."""

    stuck: bool = False
    fails_at: datetime | None = None
    outbid_at: datetime | None = None
    fate: Fate = field(default_factory=Fate)  # of its host


@dataclass(kw_only=True)
class Contract:
    """An instance, in the API's word."""

    id: int
    ask_id: int
    host: Host
    gpus: int
    launch: Launch
    key: str  # what the container may use on itself, and on nothing else
    created_at: datetime
    usd: Decimal  # for the GPUs, per hour; what was bid when it is interruptible
    storage_usd: Decimal  # per GB and month
    down_usd: Decimal  # per GB
    up_usd: Decimal
    label: str | None
    request: MachineRequest  # what the host is told to start
    actual: str | None = None
    state: str = "stopped"
    intended: str = "stopped"
    message: str | None = None
    keys: dict[int, str] = field(default_factory=dict)  # attached to this instance, by id
    trouble: Trouble = field(default_factory=Trouble)
    machine: MachineState | None = None  # as it was last seen
    made: bool = False  # the host has a container of it
    relaunched: bool = False  # the container was there before this boot
    booting_since: datetime | None = None
    ready_at: datetime | None = None
    last_not_up: datetime | None = None
    running_since: datetime | None = None
    outbid: bool = False  # waits for its bid to be enough
    offline: bool = False
    hidden_until: datetime | None = None
    misreads: int = 0  # so often it will be shown as `exited` although it runs
    ends_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def alive(self) -> bool:
        return self.ended_at is None

    @property
    def is_bid(self) -> bool:
        return self.launch.price is not None

    @property
    def name(self) -> str:
        return f"vast-{self.id}"


class Contracts:
    """All contracts that there ever were, and the only one to change them."""

    def __init__(self, market: Market, machines: Machines, bill: Bill, clock: Callable[[], datetime]) -> None:
        self._market = market
        self._machines = machines
        self._bill = bill
        self._clock = clock
        self.least_boot = LEAST_BOOT
        self.all: dict[int, Contract] = {}

    def alive(self) -> list[Contract]:
        return [contract for contract in self.all.values() if contract.alive]

    def find(self, contract_id: int) -> Contract | None:
        """A contract that has not ended."""
        contract = self.all.get(contract_id)
        return contract if contract is not None and contract.alive else None

    def add(self, contract: Contract) -> None:
        """It exists, stopped, and its storage is billed."""
        self.all[contract.id] = contract
        self._bill.open(str(contract.id), disk_rate(contract), contract.created_at)

    def start(self, contract: Contract) -> bool:
        """It is to run. False when its GPUs are not free: then it starts by itself, and bills, once they are."""
        contract.intended = "running"
        if contract.state == "running":
            return True
        if self._expired(contract):
            contract.intended = "stopped"
            return False
        return self._try(contract)

    def stop(self, contract: Contract, at: datetime | None = None) -> None:
        """Processes end, GPUs are given back, the disk stays and is billed."""
        contract.outbid = False
        self._halt(contract, at or self._clock())
        self._give_gpus(contract)

    def take_away(self, contract: Contract, at: datetime | None = None) -> None:
        """Somebody has bid more: he has the GPUs now, and this contract waits. There is no notice."""
        if contract.state == "running":
            self._halt(contract, at or self._clock())
            contract.host.outbidders += contract.gpus
        contract.state, contract.outbid = "stopped", True
        theirs = usd_rounded(contract.usd * OVERBID / contract.gpus)
        contract.host.min_bid_per_gpu = max(contract.host.min_bid_per_gpu, theirs)

    def relent(self, contract: Contract) -> None:
        """Whoever had bid more goes away: the contract resumes by itself."""
        mine = usd_rounded(contract.usd / contract.gpus)
        contract.host.min_bid_per_gpu = min(contract.host.min_bid_per_gpu, mine)
        self._drive_out(contract.host, contract.gpus)

    def bid(self, contract: Contract, usd: Decimal) -> None:
        """What is paid from now on, and what others have to outbid."""
        if contract.state == "running" and contract.running_since is not None:
            self._bill.close(str(contract.id), "compute")
        contract.usd = usd
        if contract.running_since is not None:
            self._bill.open(str(contract.id), compute_rate(contract))
        if usd < contract.host.min_bid_per_gpu * contract.gpus:
            if contract.state == "running":
                self.take_away(contract)
        elif contract.outbid:
            self._drive_out(contract.host, contract.gpus)

    def reboot(self, contract: Contract, request: MachineRequest | None = None) -> None:
        """Processes end and begin again on the same GPUs; with a request, in a container made anew."""
        self._pause(contract, self._clock())
        if request is not None:
            self._machines.remove(contract.name)
            contract.request, contract.made = request, False
        else:
            self._machines.halt(contract.name)
        self._boot(contract)

    def end(self, contract: Contract, at: datetime | None = None) -> None:
        """Destroyed: no process, no disk, no bill."""
        at = at or self._clock()
        self._machines.remove(contract.name)
        self._give_gpus(contract)
        self._bill.close(str(contract.id), at=at)
        contract.state = contract.intended = "stopped"
        contract.ended_at, contract.running_since = at, None

    def lose_contact(self, contract: Contract, at: datetime) -> None:
        """The host is offline: nothing is billed, and it does not come back by itself."""
        self._machines.freeze(contract.name)
        self._bill.close(str(contract.id), at=at)
        contract.actual, contract.offline, contract.running_since = "offline", True, None

    def tick(self) -> None:
        now = self._clock()
        for contract in self.alive():
            if contract.state == "running" and not contract.offline:
                self._go_on(contract, now)
            elif not contract.offline and (contract.intended == "running" or contract.outbid):
                self._try(contract)
            if contract.ends_at is not None and now >= contract.ends_at:
                self.end(contract, contract.ends_at)

    # -- what time brings about ---------------------------------------------------------------------------------------

    def _go_on(self, contract: Contract, now: datetime) -> None:
        trouble = contract.trouble
        if contract.running_since is None:
            self._boot_further(contract, now, self._next_trouble(contract))
        elif trouble.fate.died_at is None:
            self._watch(contract)
        noticed_at = trouble.fate.befall(self._machines, contract.name, now)
        if noticed_at is not None:
            self.lose_contact(contract, noticed_at)
        elif trouble.fails_at is not None and now >= trouble.fails_at and contract.running_since is None:
            self._fail(contract, OCI_ERROR, trouble.fails_at)
        elif trouble.outbid_at is not None and now >= trouble.outbid_at:
            at, trouble.outbid_at = trouble.outbid_at, None
            self.take_away(contract, at)
        elif now >= contract.host.end:
            self.stop(contract, contract.host.end)

    def _boot_further(self, contract: Contract, now: datetime, until: datetime | None) -> None:
        assert contract.ready_at is not None and contract.booting_since is not None
        contract.machine = self._machines.look(contract.name)
        if contract.machine.phase is MachinePhase.FAILED:
            self._fail_to_start(contract, now)
            return
        if contract.actual != "loading" and now >= contract.booting_since + min(PROVISIONING, self.least_boot):
            contract.actual, contract.message = "loading", f"{contract.launch.image}: Pulling from repository"
        if not self._has_begun(contract, now):
            contract.last_not_up = now
            return
        begin = max(contract.ready_at, contract.last_not_up or contract.ready_at)
        trouble = contract.trouble
        if trouble.stuck or trouble.fate.died_at is not None or now < begin or (until is not None and until < begin):
            return
        contract.actual, contract.running_since = "running", begin
        contract.message = f"success, running {contract.launch.image.replace(':', '_')}/{contract.launch.runtype}"
        self._bill.open(str(contract.id), compute_rate(contract), begin)

    def _has_begun(self, contract: Contract, now: datetime) -> bool:
        """It is up, or has been and has ended already."""
        assert contract.machine is not None and contract.booting_since is not None
        if contract.machine.phase is MachinePhase.OVER:
            return not contract.relaunched or now >= contract.booting_since + RELAUNCH
        return contract.machine.phase is MachinePhase.UP

    def _watch(self, contract: Contract) -> None:
        """A container that has ended is `exited`: the GPUs are still held, and billed, until it is stopped."""
        contract.machine = self._machines.look(contract.name)
        if contract.machine.phase is MachinePhase.UP:
            contract.actual = "running"
        elif contract.machine.phase is not MachinePhase.STARTING:
            contract.actual = "exited"

    def _fail_to_start(self, contract: Contract, now: datetime) -> None:
        assert contract.machine is not None
        detail = contract.machine.detail or OCI_ERROR
        if any(words in detail.lower() for words in _NO_SUCH_IMAGE):
            contract.actual, contract.message = "loading", detail  # for ever
            contract.last_not_up = now
            return
        self._fail(contract, detail, now)

    def _fail(self, contract: Contract, message: str, at: datetime) -> None:
        self.stop(contract, at)
        self._machines.remove(contract.name)
        contract.made = False
        contract.actual, contract.message = "created", message

    def _next_trouble(self, contract: Contract) -> datetime | None:
        trouble = contract.trouble
        times = (trouble.fails_at, trouble.outbid_at, *(at for at, _ in trouble.fate.turns[:1]), contract.ends_at)
        return min((at for at in times if at is not None), default=None)

    def _expired(self, contract: Contract) -> bool:
        return self._clock() >= contract.host.end

    # -- GPUs and processes -------------------------------------------------------------------------------------------

    def _try(self, contract: Contract) -> bool:
        """Begin to run, if its bid is enough and its GPUs are free."""
        if contract.is_bid and contract.usd < contract.host.min_bid_per_gpu * contract.gpus:
            return False
        if not self._market.take(contract.host, contract.gpus):
            return False
        contract.state = contract.intended = "running"
        contract.outbid = False
        self._boot(contract)
        return True

    def _give_gpus(self, contract: Contract) -> None:
        if contract.state == "running":
            self._market.give_back(contract.host, contract.gpus)
        contract.state = contract.intended = "stopped"

    def _drive_out(self, host: Host, gpus: int) -> None:
        gone = min(host.outbidders, gpus)
        host.outbidders -= gone
        self._market.give_back(host, gone)

    def _boot(self, contract: Contract) -> None:
        """After a first boot it still reads `exited` until the host has started the container again."""
        now = self._clock()
        contract.booting_since, contract.running_since, contract.last_not_up = now, None, None
        contract.ready_at = now + self.least_boot
        contract.relaunched = contract.made
        if contract.made:
            self._machines.resume(contract.name)
        else:
            self._machines.start(contract.request)
            contract.made = True

    def _halt(self, contract: Contract, at: datetime) -> None:
        was_seen = contract.running_since is not None
        self._pause(contract, at)
        contract.intended = "stopped"
        if contract.made and contract.state == "running":
            self._machines.halt(contract.name)
        if was_seen:
            contract.actual = "exited"

    def _pause(self, contract: Contract, at: datetime) -> None:
        self._bill.close(str(contract.id), "compute", at=at)
        if contract.running_since is not None:
            contract.actual = "exited"
        contract.running_since, contract.trouble.fate = None, Fate()


def compute_rate(contract: Contract) -> Rate:
    return Rate(meter="compute", unit="hour", usd_per_unit=contract.usd)


def disk_rate(contract: Contract) -> Rate:
    per_hour = contract.launch.disk_gb / HOURS_PER_MONTH
    return Rate(meter="disk", unit="GB-month", usd_per_unit=contract.storage_usd, units_per_hour=per_hour)
