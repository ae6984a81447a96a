"""The instances of the simulated EC2: what time, their machines and AWS itself do to them, and what they cost.

moto's record of an instance is what a client is shown; a `Rented` here is what is so. Knows no request and no XML.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.base import Now
from providers.rehearsal.aws.backing import set_state, tags_of
from providers.rehearsal.aws.billing import Billing
from providers.rehearsal.aws.spot import SpotMarket
from providers.rehearsal.cloud import Machine
from providers.rehearsal.fate import Fate
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, Machines, MachineState

SSH_PORT_TAG = "rehearsal:ssh-port"
SHOWN_AFTER_THE_END = timedelta(hours=1)  # "Terminated instances remain visible for a while"
NOTICE_SECONDS = 120.0
NOWHERE = ("127.0.0.1", 9)  # the discard port: nobody listens

_USER = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
_ITSELF = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")
_SPOT = ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination")
_RETIRED = ("Server.ScheduledStop", "Server.ScheduledStop: Stopped due to a scheduled retirement")
_BROKEN = ("Server.InternalError", "Server.InternalError: Internal error on launch")


@dataclass(kw_only=True)
class Trouble:
    """What is going to go wrong with an instance; nothing by default."""

    start_after: float = 0.0
    never_up: bool = False
    fails_after: float | None = None
    interrupted_after: float | None = None
    notice: float = 0.0
    fate: Fate = field(default_factory=Fate)  # of its host
    hidden_for: float = 0.0


@dataclass(kw_only=True)
class Rented:
    """One instance."""

    shown: Any  # moto's record
    request: MachineRequest
    region: str
    zone: str
    type: str
    spot: bool
    on_demand: Decimal
    max_price: Decimal  # spot: above it AWS takes it back
    wants_address: bool
    created_at: datetime
    trouble: Trouble
    spot_request: str = ""
    spot_tags: dict[str, str] = field(default_factory=dict)
    token: str = ""
    state: str = "pending"
    started: bool = False  # there is a machine
    running_since: datetime | None = None
    first_ran_at: datetime | None = None
    interrupt_at: datetime | None = None
    priced_until: datetime | None = None  # up to then the market has not been above `max_price`
    outpriced: bool = False
    left_at: datetime | None = None  # when it was told to end or to stop
    gone_at: datetime | None = None  # when shutting down (stopping) is over
    ended_at: datetime | None = None
    acknowledged_until: datetime | None = None  # the end was promised, and comes then
    why: tuple[str, str] = ("", "")
    forgotten: bool = False
    ssh: tuple[str, int] | None = None
    metadata_tokens: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        return str(self.shown.id)

    @property
    def is_over(self) -> bool:
        return self.state == "terminated"

    @property
    def notice_at(self) -> datetime | None:
        return None if self.interrupt_at is None else self.interrupt_at - timedelta(seconds=self.trouble.notice)


class Fleet:
    """All instances of one simulated cloud."""

    def __init__(self, machines: Machines, billing: Billing, market: SpotMarket, clock: Now) -> None:
        self.shutting_down_seconds = 2.0
        self._machines = machines
        self._billing = billing
        self._market = market
        self._clock = clock
        self._all: dict[str, Rented] = {}

    def add(self, rented: Rented) -> None:
        """It was accepted: a machine is to be made."""
        self._all[rented.id] = rented
        for nic in rented.shown.nics.values():
            nic.public_ip, nic.public_ip_auto_assign = None, False
        if rented.trouble.interrupted_after is not None:
            rented.interrupt_at = rented.created_at + timedelta(seconds=rented.trouble.interrupted_after)
        self._show(rented, "pending")
        self._start(rented, self._clock())

    def everything(self) -> Iterator[Rented]:
        yield from list(self._all.values())

    def known(self, region: str) -> list[Rented]:
        """What a client may see in a region: not what has just been made under a lag, nor what ended long ago."""
        now = self._clock()
        return [
            rented
            for rented in self._all.values()
            if rented.region == region
            and not rented.forgotten
            and now >= rented.created_at + timedelta(seconds=rented.trouble.hidden_for)
        ]

    def __getitem__(self, instance_id: str) -> Rented:
        return self._all[instance_id]

    def name_of(self, instance_id: str) -> str:
        """What the client called it; the id itself where there is no such instance."""
        rented = self._all.get(instance_id)
        return instance_id if rented is None else tags_of(rented.shown).get("Name", "")

    def tick(self) -> None:
        now = self._clock()
        for rented in self._all.values():
            if not rented.forgotten:
                self._advance(rented, now)

    def end(self, rented: Rented, at: datetime, why: tuple[str, str] = _USER) -> None:
        """It leaves `running`: its machine goes, its meters stop but for its volumes."""
        if rented.state in ("shutting-down", "terminated"):
            return
        self._leave(rented, at, "shutting-down", why)
        self._machines.remove(rented.request.name)

    def promise_end(self, rented: Rented, seconds: float) -> None:
        """The end was acknowledged, and comes so much later; until then it runs and bills."""
        rented.acknowledged_until = self._clock() + timedelta(seconds=seconds)

    def stop(self, rented: Rented, at: datetime, why: tuple[str, str] = _USER) -> None:
        if rented.state != "running":
            return
        self._leave(rented, at, "stopping", why)
        self._machines.halt(rented.request.name)

    def start(self, rented: Rented) -> None:
        """A stopped one runs again, with its disk as it was."""
        rented.why = ("", "")
        rented.shown.launch_time = self._clock().replace(microsecond=0)  # as EC2 does
        self._show(rented, "pending")
        self._machines.resume(rented.request.name)

    def interrupt(self, rented: Rented, notice_seconds: float) -> None:
        """AWS wants the machine back, in so many seconds; KeyError and ValueError are the caller's."""
        rented.trouble.notice = notice_seconds
        rented.interrupt_at = self._clock() + timedelta(seconds=notice_seconds)
        self._advance(rented, self._clock())

    def machine(self, rented: Rented) -> Machine:
        return Machine(
            id=rented.id,
            name=self.name_of(rented.id),
            status=rented.state,
            alive=not rented.is_over or self._billing.has_volumes(rented.id),
            created_at=rented.created_at,
            ended_at=rented.ended_at,
            ssh=rented.ssh,
        )

    def _advance(self, rented: Rented, now: datetime) -> None:
        if rented.state == "pending":
            self._boot(rented, now)
        if rented.state == "running":
            self._run(rented, now)
        if rented.state in ("pending", "running"):
            self._befall(rented, now)
        if rented.gone_at is not None and now >= rented.gone_at:
            self._settle(rented)
        if rented.is_over and rented.ended_at is not None and now >= rented.ended_at + SHOWN_AFTER_THE_END:
            self._forget(rented)

    def _boot(self, rented: Rented, now: datetime) -> None:
        trouble = rented.trouble
        if trouble.fails_after is not None:
            if now >= (due := rented.created_at + timedelta(seconds=trouble.fails_after)):
                self.end(rented, due, _BROKEN)
            return
        self._start(rented, now)
        if not rented.started:
            return
        seen = MachineState(phase=MachinePhase.UP, ssh=NOWHERE) if trouble.never_up else self._look(rented)
        if seen.phase is MachinePhase.FAILED:
            self.end(rented, now, (_BROKEN[0], f"{_BROKEN[1]} ({seen.detail})"))
        elif seen.phase is MachinePhase.UP and seen.ssh is not None:
            self._up(rented, now, seen.ssh)
        elif seen.phase is MachinePhase.OVER:
            self._up(rented, now, NOWHERE)

    def _start(self, rented: Rented, now: datetime) -> None:
        if rented.started or rented.trouble.fails_after is not None:
            return
        if now < rented.created_at + timedelta(seconds=rented.trouble.start_after):
            return
        if not rented.trouble.never_up:
            self._machines.start(rented.request)
        rented.started = True

    def _up(self, rented: Rented, now: datetime, ssh: tuple[str, int]) -> None:
        rented.ssh = ssh
        rented.running_since = now
        rented.first_ran_at = rented.first_ran_at or now
        if rented.wants_address:
            rented.shown.nics[0].public_ip = ssh[0]
            rented.shown.add_tags({SSH_PORT_TAG: str(ssh[1])})
        self._show(rented, "running")
        self._billing.ran(rented, now)

    def _run(self, rented: Rented, now: datetime) -> None:
        """What a running instance does by itself, and what the spot market does to it."""
        if rented.spot and rented.interrupt_at is None:
            self._outprice(rented, now)
        self._billing.next_hours(rented, min(now, rented.interrupt_at or now))
        if rented.trouble.never_up:
            return
        if self._look(rented).phase in (MachinePhase.OVER, MachinePhase.FAILED, MachinePhase.GONE):
            # A one-time spot instance cannot be stopped: however it shuts down, it terminates.
            if rented.spot or rented.shown.instance_initiated_shutdown_behavior == "terminate":
                self.end(rented, now, _ITSELF)
            else:
                self.stop(rented, now, _ITSELF)

    def _outprice(self, rented: Rented, now: datetime) -> None:
        """Above its maximum price AWS takes an instance back, with the usual notice.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/interruption-reasons.html
        """
        since = rented.priced_until or rented.created_at
        rented.priced_until = now
        dear_at = self._market.above(rented.type, rented.zone, rented.max_price, since, now)
        if dear_at is not None:
            rented.outpriced, rented.trouble.notice = True, NOTICE_SECONDS
            rented.interrupt_at = dear_at + timedelta(seconds=NOTICE_SECONDS)

    def _befall(self, rented: Rented, now: datetime) -> None:
        if rented.interrupt_at is not None and now >= rented.interrupt_at:
            self._billing.interrupted(rented, rented.interrupt_at)
            self.end(rented, rented.interrupt_at, _SPOT)
        elif rented.acknowledged_until is not None and now >= rented.acknowledged_until:
            self.end(rented, rented.acknowledged_until)
        elif rented.started:
            noticed_at = rented.trouble.fate.befall(self._machines, rented.request.name, now)
            if noticed_at is not None:
                self._retire(rented, noticed_at)

    def _retire(self, rented: Rented, at: datetime) -> None:
        """AWS has found its host broken: it stops what lives on a volume; a one-time spot instance cannot be stopped.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/schedevents_actions_retire.html
        """
        if rented.spot or rented.state != "running":
            self.end(rented, at, _RETIRED)
        else:
            self.stop(rented, at, _RETIRED)

    def _leave(self, rented: Rented, at: datetime, state: str, why: tuple[str, str]) -> None:
        self._billing.left(rented, at)
        rented.running_since, rented.why, rented.ssh, rented.trouble.fate = None, why, None, Fate()
        rented.gone_at = at + timedelta(seconds=self.shutting_down_seconds)
        for nic in rented.shown.nics.values():
            nic.public_ip = None
        rented.left_at = at
        self._show(rented, state)

    def _settle(self, rented: Rented) -> None:
        """Shutting down or stopping is over, once the machine says so, too."""
        assert rented.gone_at is not None
        if rented.state == "stopping":
            self._show(rented, "stopped")
        elif self._look(rented).phase is not MachinePhase.GONE:
            return
        else:
            rented.shown.terminate()  # once only: moto cannot do it twice where a network interface was named
            self._billing.volumes_changed(rented.region, rented.gone_at)
            rented.ended_at = rented.gone_at
            self._show(rented, "terminated")
        rented.gone_at = None

    def _forget(self, rented: Rented) -> None:
        rented.forgotten = True
        for reservation in rented.shown.ec2_backend.reservations.values():
            reservation.instances = [one for one in reservation.instances if one is not rented.shown]

    def _show(self, rented: Rented, state: str) -> None:
        rented.state = state
        when = (rented.left_at or self._clock()).strftime("%Y-%m-%d %H:%M:%S GMT")
        by = {_USER: "User initiated", _SPOT: "Server.SpotInstanceTermination"}.get(rented.why, rented.why[0])
        set_state(rented.shown, state, *rented.why, f"{by} ({when})" if rented.why[0] else "")

    def _look(self, rented: Rented) -> MachineState:
        return self._machines.look(rented.request.name)
