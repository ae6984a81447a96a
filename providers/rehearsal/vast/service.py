"""What Vast.ai does when it is asked: rent, stop, bid, destroy, settle; and what it is told to do wrong.

Holds all state of the simulated cloud. Knows what a refusal says, and no request.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.rehearsal.bill import Bill, Rate
from providers.rehearsal.clock import SimulatedClock
from providers.rehearsal.fate import take_fate
from providers.rehearsal.faults import Fault, Faults
from providers.rehearsal.machines.base import MachineRequest, Machines, SimulatedGpus
from providers.rehearsal.vast.account import OTHER_KEY, OTHER_USER_ID, Account, instance_key
from providers.rehearsal.vast.contracts import Contract, Contracts
from providers.rehearsal.vast.launch import LEAST_BID, Launch, invalid_price, read_bid, read_launch
from providers.rehearsal.vast.limits import Limits
from providers.rehearsal.vast.market import KINDS, Ask, Market
from providers.rehearsal.vast.refused import Refused, refused

_FIRST_CONTRACT = 27_310_400
_SETTLED_EVERY = timedelta(seconds=5)  # "balances update every few seconds"


class Vast:
    """The cloud without its API."""

    def __init__(
        self, machines: Machines, bill: Bill, faults: Faults, clock: SimulatedClock, *,
        seed: int, hosts: int, credit: Decimal, limits: Limits,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.bill = bill
        self.faults = faults
        self.machines = machines
        self.limits = limits
        self.market = Market(clock(), seed=seed, hosts=hosts)
        self.contracts = Contracts(self.market, machines, bill, clock)
        self.account = Account(bill, clock, credit=credit)
        self.machine_url = ""  # where the machines find this cloud, once it listens
        self.logs: dict[str, tuple[datetime, str]] = {}  # by name: from when on they are there
        self._seed = seed
        self._next_contract = _FIRST_CONTRACT
        self._settled_at = clock()

    def for_another(self) -> Vast:
        """The same market, as a user who has no instances and no credit meets it."""
        another, bill = copy(self), Bill(self.clock)
        another.contracts = Contracts(self.market, self.machines, bill, self.clock)
        another.account = Account(bill, self.clock, credit=Decimal(0), id=OTHER_USER_ID, key=OTHER_KEY)
        return another

    def tick(self) -> None:
        self.contracts.tick()
        if self.clock() >= self._settled_at + _SETTLED_EVERY:
            self._settled_at = self.clock()
            if self.account.credit <= 0:
                self._stop_everything()

    def create(self, ask_id: int, body: Any) -> dict[str, Any]:
        """Rent an ask. Raises Refused; one of the refusals leaves an instance behind."""
        launch = read_launch(body, ask_id)
        if self.account.credit <= 0 or self.faults.take("create", "no_funds"):
            raise no_credit()
        if self.faults.take("create", "quota"):
            raise refused(400, "spend_rate_limit", "Your account has reached its spending limit.")
        ask = self._ask(ask_id)
        usd = ask.usd if launch.price is None else read_bid(launch.price, ask.gpus)
        if self.faults.take("create", "no_capacity"):
            self.market.take(ask.host, ask.host.free)  # somebody else is running there
        if launch.starts and launch.cancel_unavail and not ask.rentable:
            raise gone(ask_id)
        contract = self._rent(ask, launch, usd)
        if launch.price is not None and usd < ask.min_bid:
            # The instance is there, stopped, and its disk is billed: dstack's Vast backend looks for `new_contract` in
            # the body of a refused create (dstackai/dstack, api_client.py, 2026).
            self.contracts.take_away(contract)
            least = max(ask.min_bid, LEAST_BID)
            raise invalid_price(f"Please set a bid price >= {least}.", new_contract=contract.id, ask_id=ask_id)
        return {"success": True, "new_contract": contract.id, "instance_api_key": contract.key}

    def destroy(self, contract_id: int) -> None:
        """Raises Refused when it is gone already."""
        contract = self.contract(contract_id)
        if contract.ends_at is not None:
            return
        fault = self.faults.take("terminate", "terminate_ignored", "terminate_acknowledged")
        if fault is None:
            self.contracts.end(contract)
        elif fault.kind == "terminate_acknowledged":
            contract.ends_at = self.clock() + timedelta(seconds=fault.seconds)

    def start(self, contract_id: int) -> bool:
        """False: it is queued, and starts and bills as soon as there is room."""
        contract = self.contract(contract_id)
        if self.account.credit <= 0:
            raise no_credit()
        return self.contracts.start(contract)

    def stop(self, contract_id: int) -> None:
        self.contracts.stop(self.contract(contract_id))

    def bid(self, contract_id: int, price: Any) -> None:
        """No price: the least that wins."""
        contract = self.contract(contract_id)
        if not contract.is_bid:
            raise refused(400, "invalid_args", f"Invalid args: instance {contract_id} is not interruptible.")
        least = contract.host.min_bid_per_gpu * contract.gpus
        self.contracts.bid(contract, least if price is None else read_bid(price, contract.gpus))

    def restart(self, contract_id: int, *, anew: bool) -> None:
        """Reboot, or `anew`: recycle. The GPUs are kept."""
        contract = self.contract(contract_id)
        if contract.state != "running":
            raise refused(400, "invalid_args", f"Invalid args: instance {contract_id} is not running.")
        self.contracts.reboot(contract, self._request(contract, contract.request.gpus) if anew else None)

    def traffic(self, contract: Contract, gb_down: Decimal, gb_up: Decimal) -> None:
        """So much went over the network now; both ways are billed, in any state."""
        now = self.clock()
        for meter, usd, units in (
            ("traffic_in", contract.down_usd, gb_down),
            ("traffic_out", contract.up_usd, gb_up),
        ):
            self.bill.count(str(contract.id), Rate(meter=meter, unit="GB", usd_per_unit=usd), units, now, now)

    def contract(self, contract_id: int) -> Contract:
        """Raises Refused when there is none (any more)."""
        if (contract := self.contracts.find(contract_id)) is None:
            raise refused(404, "no_such_instance", f"Instance {contract_id} not found.")
        return contract

    def listed(self) -> list[Contract]:
        """What a list shows: a new instance may be missing for a moment."""
        now = self.clock()
        return [one for one in self.contracts.alive() if one.hidden_until is None or now >= one.hidden_until]

    # -- renting ------------------------------------------------------------------------------------------------------

    def _ask(self, ask_id: int) -> Ask:
        ask = self.market.find(ask_id, self.clock())
        if ask is not None and (fault := self.faults.take("create", "offer_gone")) is not None:
            self.market.take(ask.host, ask.gpus)
            self.market.use_up(ask)
            raise gone(ask_id, fault.status or 410)
        if ask is not None:
            return ask
        if self.market.was_there(ask_id):
            raise gone(ask_id)
        message = f"error 404/3603: no_such_ask Instance type by id {ask_id} is not available."
        raise refused(404, "invalid_args", message, ask_id=ask_id)

    def _rent(self, ask: Ask, launch: Launch, usd: Decimal) -> Contract:
        contract = self._contract(ask, launch, usd)
        self.contracts.add(contract)
        if (lag := self.faults.take("list", "list_lag")) is not None:
            contract.hidden_until = contract.created_at + timedelta(seconds=lag.seconds)
        begins = launch.starts and ask.rentable and (launch.price is None or usd >= ask.min_bid)
        contract.request = self._request(contract, self._gpus(ask, as_told=begins))
        boot = self._plan_trouble(contract) if begins else None
        if not (begins and self.contracts.start(contract)):
            contract.actual = "loading"  # stopped from the beginning
            contract.intended = "stopped"
        elif boot is not None and boot.kind == "slow_boot":
            contract.ready_at = contract.created_at + timedelta(seconds=boot.seconds)
        self.market.use_up(ask)
        return contract

    def _contract(self, ask: Ask, launch: Launch, usd: Decimal) -> Contract:
        self._next_contract += 1
        return Contract(
            id=self._next_contract,
            ask_id=ask.id,
            host=ask.host,
            gpus=ask.gpus,
            launch=launch,
            key=instance_key(self._seed, self._next_contract),
            created_at=self.clock(),
            usd=usd,
            storage_usd=ask.host.storage_usd_per_month,
            down_usd=ask.host.down_usd_per_gb,
            up_usd=ask.host.up_usd_per_gb,
            label=launch.label,
            request=MachineRequest(name=f"vast-{self._next_contract}"),
        )

    def _plan_trouble(self, contract: Contract) -> Fault | None:
        """The faults that wait for a machine like this one, used up; the one of its boot is told."""
        now, trouble = contract.created_at, contract.trouble
        boot = self.faults.take("create", "slow_boot", "stuck_boot", "failed_boot")
        trouble.stuck = boot is not None and boot.kind != "slow_boot"
        if boot is not None and boot.kind == "failed_boot":
            trouble.fails_at = now + timedelta(seconds=boot.seconds)
        if contract.is_bid and (outbid := self.faults.take("create", "preempt")) is not None:
            trouble.outbid_at = now + timedelta(seconds=outbid.seconds)
        trouble.fate = take_fate(self.faults, now)
        return boot

    def _gpus(self, ask: Ask, *, as_told: bool) -> SimulatedGpus | None:
        kind, fault = ask.host.kind, self.faults.take("create", "no_gpu", "wrong_gpu") if as_told else None
        if fault is not None and fault.kind == "no_gpu":
            return None
        if fault is not None:
            kind = next(other for other in KINDS if other is not kind)
        return SimulatedGpus(kind.nvidia, ask.gpus, kind.memory_mb)

    def _request(self, contract: Contract, gpus: SimulatedGpus | None) -> MachineRequest:
        """The account's keys are put into new containers, and so are those attached to the instance by then."""
        keys = [key.text for key in self.account.ssh_keys.values()] + list(contract.keys.values())
        return contract.launch.machine(contract.name, self._own_variables(contract), keys, gpus)

    def _own_variables(self, contract: Contract) -> Mapping[str, str]:
        own = {
            "CONTAINER_ID": str(contract.id),
            "CONTAINER_API_KEY": contract.key,
            "CONTAINER_LABEL": f"C.{contract.id}",
            "VAST_CONTAINERLABEL": f"C.{contract.id}",
            "PUBLIC_IPADDR": "127.0.0.1",
            "GPU_COUNT": str(contract.gpus),
            "DATA_DIRECTORY": "/workspace/",
        }
        # Not of the real cloud: where the container finds this one.
        return {**own, "VAST_URL": self.machine_url} if self.machine_url else own

    def _stop_everything(self) -> None:
        for contract in self.contracts.alive():
            if contract.outbid or "running" in (contract.state, contract.intended):
                self.contracts.stop(contract)


def gone(ask_id: int, status: int = 410) -> Refused:
    """Both 410 (documented) and 400 are seen."""
    message = f"error {status}/3907: no_such_ask Instance type {ask_id} is no longer available."
    return refused(status, "no_such_ask", message, ask_id=ask_id)


def no_credit() -> Refused:
    return refused(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
