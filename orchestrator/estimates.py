"""How long a job will take on an offer, what it brings back, and what that rests on: earlier runs of the same job.

The same job is a run of the same name and project that succeeded. Of those, runs with the same `run` and `env` are
used, and only when there is none, runs with other arguments, which is said. On the same hardware (the GPU and the
number of them, anywhere; without a GPU the provider and the number of CPUs) it is their median, of runs of the same
files when there are any. On other hardware it is scaled by speeds that somebody measured, else by the makers' dense
bf16 TFLOP/s: a guess. Where no speed is known it is taken as long as elsewhere, so that the price decides; where
nothing is known at all, as an hour. A job never takes longer than `limits.max_duration`. What ran on a simulated cloud
says nothing about a real one, and the other way round.

Pure: earlier runs come in as values (`past_runs` reads them). Knows no store, no clock and no cloud.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.reports import words
from providers import gpus
from providers.base import GB, Offer, Traits

if TYPE_CHECKING:
    from jobs.spec import Spec

EXPECTED_HOURS = Decimal(1)  # how long a job takes when nothing is known of it
_MOST_NAMED = 3  # kinds of hardware in one sentence

Speeds = Callable[[str, int], float | None]  # of so many of a GPU in one machine, against any others; None: not known


class Basis(StrEnum):
    """What a time rests on, the best first."""

    RUNS = "runs"  # earlier runs on the same hardware
    SPEEDS = "speeds"  # earlier runs on other hardware, scaled by measured speeds
    TFLOPS = "tflops"  # the same, scaled by the makers' figures: a guess
    ELSEWHERE = "elsewhere"  # earlier runs on hardware whose speed cannot be compared: a guess
    NOTHING = "nothing"  # an assumption


class Hardware(NamedTuple):
    """What makes one machine as fast as another: its GPUs, or of one without any its provider and number of CPUs."""

    gpu: str | None
    gpu_count: int
    provider: str = ""
    vcpus: float = 0.0

    def __str__(self) -> str:
        """RTX4090, 2x RTX4090, 8 CPUs at aws."""
        if self.gpu_count:
            return words.one_line(
                f"{self.gpu_count}x {self.gpu or 'GPU'}" if self.gpu_count > 1 else self.gpu or "a GPU"
            )
        return f"{words.number(self.vcpus)} CPU{'' if self.vcpus == 1 else 's'} at {words.one_line(self.provider)}"


@dataclass(frozen=True, kw_only=True)
class Past:
    """An earlier run of a job that succeeded."""

    run_id: str
    hardware: Hardware
    provider: str
    is_simulated: bool
    job_seconds: float  # from the job's start to its exit, with what a checkpoint kept of attempts before
    overhead_seconds: float  # what else its machine was there for
    boot_seconds: float | None  # of that, until it ran; None: nobody saw it
    fetched_bytes: int
    command: str
    env: Mapping[str, str]
    digest: str | None  # of the files that were shipped


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long the job takes on one offer. `least` and `most` are the range of its own time, where runs tell one."""

    job_seconds: float
    overhead_seconds: float  # boot, setup and what comes after
    basis: Basis
    rests_on: str  # in words
    runs: int = 0  # so many earlier runs
    least: float | None = None
    most: float | None = None

    @property
    def seconds(self) -> float:
        """For which the machine is there."""
        return round(self.job_seconds + self.overhead_seconds, 3)

    @property
    def hours(self) -> Decimal:
        return Decimal(str(self.seconds)) / 3600

    @property
    def is_guess(self) -> bool:
        return self.basis not in (Basis.RUNS, Basis.SPEEDS)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the job took before, wherever that was."""

    usd: Decimal
    least_usd: Decimal
    most_usd: Decimal
    job_seconds: float
    rests_on: str


def no_speeds(_gpu: str, _count: int) -> float | None:
    """Nobody has measured anything."""
    return None


def of_offer(offer: Offer, *, with_gpu: bool) -> Hardware:
    """The hardware of an offer, for a job with or without a GPU."""
    return hardware(offer.gpu, offer.gpu_count, offer.provider, offer.vcpus, with_gpu=with_gpu)


def hardware(gpu: str | None, count: int, provider: str, vcpus: float, *, with_gpu: bool) -> Hardware:
    """A job without a GPU may run beside one that is idle: then only the CPUs count."""
    return Hardware(gpu, count) if with_gpu and count else Hardware(None, 0, provider, float(vcpus))


class Estimates:
    """What is known of one job; asked for each offer."""

    def __init__(
        self,
        spec: Spec,
        past: Sequence[Past] = (),
        *,
        digest: str | None = None,
        speeds: Speeds = no_speeds,
        expected_hours: Decimal = EXPECTED_HOURS,
    ) -> None:
        """`past` newest first. `digest` is of the job's files, where it is known."""
        self._spec, self._past, self._digest, self._speeds = spec, past, digest, speeds
        self._longest = spec.limits.max_duration.total_seconds()
        self._assumed = float(expected_hours) * 3600
        self._with_gpu = bool(spec.resources.gpu)
        self._known: dict[tuple[Hardware, str, bool, float], Estimate] = {}
        self._fetched: dict[bool, Decimal] = {}

    def at(self, offer: Offer, traits: Traits | None) -> Estimate:
        """The job on this offer. `traits` are the provider's; None when it could not be opened."""
        boot, is_simulated = (traits.usual_boot, traits.simulated) if traits else (0.0, False)
        machine = of_offer(offer, with_gpu=self._with_gpu)
        key = (machine, offer.provider, is_simulated, boot)
        if key not in self._known:  # a cloud has thousands of offers, of few kinds
            self._known[key] = self._estimate(*key)
        return self._known[key]

    def egress_gb(self, *, is_simulated: bool = False) -> Decimal:
        """What is brought back: the median of earlier runs, 0 when there are none."""
        if is_simulated not in self._fetched:
            runs, _ = self._of_kind(is_simulated)
            fetched = round(median(run.fetched_bytes for run in runs)) if runs else 0
            self._fetched[is_simulated] = Decimal(fetched) / GB
        return self._fetched[is_simulated]

    def before(self, usd: Mapping[str, Decimal]) -> Expectation | None:
        """What earlier runs took on hardware, and at providers, that the job allows; None when there were none.

        `usd` is what each has cost. Those of simulated clouds count only when there are no others.
        """
        for is_simulated in (False, True):
            found, how = self._of_kind(is_simulated)
            if runs := [run for run in found if run.run_id in usd and self._allows(run)]:
                runs, files = self._of_files(runs)
                costs = [usd[run.run_id] for run in runs]
                return Expectation(
                    usd=Decimal(median(costs)),
                    least_usd=min(costs),
                    most_usd=max(costs),
                    job_seconds=median(run.job_seconds for run in runs),
                    rests_on=_named(runs) + files + how,
                )
        return None

    def _estimate(self, machine: Hardware, provider: str, is_simulated: bool, boot: float) -> Estimate:
        overhead = self._overhead(provider, is_simulated, boot)
        runs, how = self._of_kind(is_simulated)
        if not runs:
            return self._assumption(overhead, is_simulated)
        if same := [run for run in runs if run.hardware == machine]:
            same, files = self._of_files(same)
            return self._from(same, 1.0, overhead, Basis.RUNS, _named(same) + files + how)
        for basis, speeds, by in (
            (Basis.SPEEDS, self._speeds, "measured speed"),
            (Basis.TFLOPS, _tflops, "data-sheet TFLOP/s: a guess"),
        ):
            if (found := _nearest(machine, runs, speeds)) is not None:
                others, factor = found
                others, files = self._of_files(others)
                told = f"scaled from {_named(others)}{files}{how} by {by}"
                return self._from(others, factor, overhead, basis, told)
        runs, files = self._of_files(runs)
        told = f"taken as long as {_named(runs)}{files}{how}: a guess"
        return self._from(runs, 1.0, overhead, Basis.ELSEWHERE, told)

    def _from(self, runs: Sequence[Past], factor: float, overhead: float, basis: Basis, told: str) -> Estimate:
        times = [run.job_seconds * factor for run in runs]
        expected = median(times)
        if expected > self._longest:
            told = f"{told}; cut at limits.max_duration"
        return Estimate(
            job_seconds=self._cut(expected),
            overhead_seconds=overhead,
            basis=basis,
            rests_on=told,
            runs=len(runs),
            least=self._cut(min(times)),
            most=self._cut(max(times)),
        )

    def _assumption(self, overhead: float, is_simulated: bool) -> Estimate:
        seconds = self._cut(self._assumed)
        told = f"nothing known: {words.duration(seconds)} assumed"
        if self._assumed > self._longest:
            told = f"nothing known: limits.max_duration, {words.duration(seconds)}, assumed"
        if others := sum(run.is_simulated != is_simulated for run in self._past):
            where = "real" if is_simulated else "simulated"
            told += f"; {words.plural(others, 'earlier run')} on {where} machines not counted"
        return Estimate(job_seconds=seconds, overhead_seconds=overhead, basis=Basis.NOTHING, rests_on=told)

    def _cut(self, seconds: float) -> float:
        return min(round(seconds, 3), self._longest)

    def _overhead(self, provider: str, is_simulated: bool, boot: float) -> float:
        """As it was at this provider; else its usual boot, and what else there was elsewhere."""
        past = [run for run in self._past if run.is_simulated == is_simulated]
        if here := [run.overhead_seconds for run in past if run.provider == provider]:
            return round(median(here), 3)
        around = [run.overhead_seconds - run.boot_seconds for run in past if run.boot_seconds is not None]
        return round(boot + max(0.0, median(around) if around else 0.0), 3)

    def _of_kind(self, is_simulated: bool) -> tuple[list[Past], str]:
        """The runs to go by, and what is to be said of them."""
        past = [run for run in self._past if run.is_simulated == is_simulated]
        said = ", simulated" if is_simulated else ""
        wanted = (self._spec.run, dict(self._spec.env))
        same = [run for run in past if (run.command, dict(run.env)) == wanted]
        return (same, said) if same else (past, f"{said}, with other arguments")

    def _of_files(self, runs: list[Past]) -> tuple[list[Past], str]:
        """Those with the job's own files; when there are none, all of them, and that it is so."""
        if self._digest is None:
            return runs, ""
        same = [run for run in runs if run.digest == self._digest]
        return (same, "") if same else (runs, ", with other files")

    def _allows(self, run: Past) -> bool:
        spec, machine = self._spec, run.hardware
        if spec.place.providers and run.provider not in spec.place.providers:
            return False
        if not self._with_gpu:
            return True
        return any(
            choice.name in (None, machine.gpu) and machine.gpu_count >= choice.count for choice in spec.resources.gpu
        )


def _nearest(machine: Hardware, runs: Sequence[Past], speeds: Speeds) -> tuple[list[Past], float] | None:
    """The runs on the GPU whose speed is nearest to this one's, and by what their times are multiplied."""
    if (own := _speed(machine, speeds)) is None:
        return None
    kinds: dict[Hardware, list[Past]] = {}
    for run in runs:
        kinds.setdefault(run.hardware, []).append(run)
    factors = {kind: speed / own for kind in kinds if (speed := _speed(kind, speeds)) is not None}
    if not factors:
        return None
    best = min(factors, key=lambda kind: (abs(math.log(factors[kind])), -len(kinds[kind])))
    return kinds[best], factors[best]


def _speed(machine: Hardware, speeds: Speeds) -> float | None:
    if not machine.gpu or not machine.gpu_count:
        return None
    speed = speeds(machine.gpu, machine.gpu_count)
    return speed if speed is not None and speed > 0 and math.isfinite(speed) else None


def _tflops(gpu: str, count: int) -> float | None:
    """As if so many GPUs were so many times as fast as one."""
    if gpu not in gpus.names():
        return None
    tflops = gpus.specification(gpu).bf16_tflops
    return None if tflops is None else tflops * count


def _named(runs: Sequence[Past]) -> str:
    """3 earlier runs on RTX4090 and RTX3090."""
    kinds = list(dict.fromkeys(str(run.hardware) for run in runs))
    if len(kinds) > _MOST_NAMED:
        kinds = [*kinds[: _MOST_NAMED - 1], "others"]
    where = " and ".join((", ".join(kinds[:-1]), kinds[-1]) if len(kinds) > 1 else kinds)
    return f"{words.plural(len(runs), 'earlier run')} on {where}"
