"""What time brings about: boots, ends, dead hosts, deadlines of the pods, and RunPod's billing run every five minutes.

Knows no wire. A jump of the clock is lived through in order: what was due first happens first, at its own time.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from providers.rehearsal.bill import Line
from providers.rehearsal.machines.base import MachinePhase, MachineRequest, Machines, SimulatedGpus
from providers.rehearsal.runpod.pods import Plan, Pod, Pods, Status

_BILLING_RUN = timedelta(minutes=5)
_RESTART = timedelta(seconds=5)
_MEMORY_MB_PER_GB = 1024


class Life:
    """Moves pods on and keeps their machines in step."""

    def __init__(self, pods: Pods, machines: Machines) -> None:
        self._pods = pods
        self._machines = machines
        self._next_run = pods.clock() + _BILLING_RUN

    def tick(self, machine_url: str) -> None:
        now = self._pods.clock()
        for pod in list(self._pods.living()):
            while (due := pod.due(now)) is not None:
                self._carry_out(*due, pod, machine_url)
            if pod.is_made:
                self._befall(pod, now)
            if pod.is_made and pod.fate.died_at is None:
                self._look(pod, now)
        self._billing_runs(now)
        self.sweep()

    def sweep(self) -> None:
        """Remove the machines of pods that have left them."""
        while self._pods.leaving:
            self._machines.remove(self._pods.leaving.pop())

    def _carry_out(self, plan: Plan, at: datetime, pod: Pod, machine_url: str) -> None:
        if plan is Plan.BOOT:
            self._boot(pod, machine_url)
        elif plan is Plan.FAIL:
            self._pods.stop(pod, at=at, by="Runpod", status=Status.ERROR)
        elif plan is Plan.STOP:
            if pod.status is Status.RUNNING:
                self._pods.stop(pod, at=at, by="Runpod")
        else:
            self._pods.end(pod, at, by="user" if plan is Plan.END else "Runpod")

    def _befall(self, pod: Pod, now: datetime) -> None:
        """RunPod does not charge for a host that is down; but until it notices nobody there knows that it is."""
        noticed_at = pod.fate.befall(self._machines, pod.machine, now)
        if noticed_at is not None:
            self._pods.bill.close(pod.id, "compute", at=pod.fate.died_at)
            self._pods.stop(pod, at=noticed_at, by="Runpod")

    def _boot(self, pod: Pod, machine_url: str) -> None:
        """An order that no container can be made of never comes up: RUNNING without a runtime, and billed."""
        try:
            entrypoint, command = start_command(pod.order.args)
        except ValueError:
            return
        if pod.is_made:
            self._machines.resume(pod.machine)
            return
        pod.is_made = True
        gpu = self._pods.market.gpus.get(pod.gpu or "")
        memory = gpu.memory_gb * _MEMORY_MB_PER_GB if gpu is not None else 0
        self._machines.start(
            MachineRequest(
                name=pod.machine,
                image=pod.order.image,
                command=command,
                entrypoint=entrypoint,
                env={**pod.order.env, **self._given(pod, machine_url)},
                gpus=SimulatedGpus(gpu.id, pod.order.gpu_count, memory) if gpu is not None else None,
            )
        )

    def _given(self, pod: Pod, machine_url: str) -> dict[str, str]:
        """What RunPod puts into every pod. The port of a real machine is not known before it is up."""
        given = {
            "RUNPOD_POD_ID": pod.id,
            "RUNPOD_API_KEY": pod.key,
            "RUNPOD_PUBLIC_IP": "127.0.0.1",
            "RUNPOD_DC_ID": pod.host.data_center or "",
            "RUNPOD_POD_HOSTNAME": f"{pod.id}-{pod.host.id[:8]}",
            "RUNPOD_GPU_COUNT": str(pod.order.gpu_count if pod.order.gpu else 0),
            "RUNPOD_CPU_COUNT": str(pod.order.vcpus or pod.order.gpu_count * 8),
        }
        if "22/tcp" in pod.order.ports and not self._machines.is_real:
            given["RUNPOD_TCP_PORT_22"] = str(pod.invented_port)
        if machine_url:
            given["RUNPOD_API_BASE_URL"] = machine_url
        return given

    def _look(self, pod: Pod, now: datetime) -> None:
        state = self._machines.look(pod.machine)
        if state.phase is MachinePhase.UP and state.ssh is not None:
            host, port = state.ssh
            pod.ssh = (host, port if self._machines.is_real else pod.invented_port)
            pod.up_since = pod.up_since or now
            return
        pod.ssh = pod.up_since = None
        if state.phase is MachinePhase.OVER and Plan.BOOT not in pod.plans:
            # A container that ends is started again, and the pod goes on to bill; other ports, the same disk.
            pod.invented_port = self._pods.dice.randint(10_000, 60_000)
            pod.plans[Plan.BOOT] = now + _RESTART

    def _billing_runs(self, now: datetime) -> None:
        if now < self._next_run:
            return
        if self._pods.balance() > 0 and self._pods.usd_per_hour() <= self._pods.account.spend_limit:
            self._next_run += ((now - self._next_run) // _BILLING_RUN + 1) * _BILLING_RUN
            return
        while self._next_run <= now:
            if self._pods.bill.running():
                self._billing_run(self._next_run)
            self._next_run += _BILLING_RUN

    def _billing_run(self, at: datetime) -> None:
        """An empty account ends everything; too high a rate ends the newest pods (reported: killed 4 min after create).

        docs.runpod.io/pods/pricing, 2026-08: pods with a network volume are stopped, others terminated with their data.
        """
        spent = sum((usd_until(line, at) for line in self._pods.bill.lines()), Decimal(0))
        newest_first = [pod for pod in reversed(list(self._pods.living())) if pod.created_at <= at]
        if self._pods.account.credit <= spent:
            for pod in newest_first:
                self._cut_off(pod, at)
            return
        for pod in newest_first:
            if self._pods.usd_per_hour() <= self._pods.account.spend_limit:
                return
            if pod.status is Status.RUNNING:
                self._cut_off(pod, at)

    def _cut_off(self, pod: Pod, at: datetime) -> None:
        if pod.order.network_volume is None:
            self._pods.end(pod, at, by="Runpod")
        elif pod.status is Status.RUNNING:
            self._pods.stop(pod, at=at, by="Runpod")


def start_command(args: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Entrypoint and command. A shell-like string replaces the command; JSON may name both. ValueError for neither."""
    if not args.lstrip().startswith("{"):
        return None, tuple(shlex.split(args))
    document = json.loads(args)
    entrypoint = document.get("entrypoint")
    return tuple(entrypoint) if entrypoint else None, tuple(document.get("cmd") or ())


def usd_until(line: Line, at: datetime) -> Decimal:
    """What a line of the bill had come to by then."""
    if line.start >= at:
        return Decimal(0)
    return replace(line, end=min(line.end or at, at)).usd(at)
