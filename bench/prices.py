"""How long the choice among many offers takes, and what prices of three clouds take beyond the slowest of them.

Targets: 20,000 offers in 0.1 s; 0.3 s more than the slowest cloud. In the first two tables the clouds are in memory; in
the last they are the simulated ones, spoken to over HTTP by the real providers.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import providers
from bench.measure import GPUJOB, clean_environment, in_turn, spread, table, wall
from jobs.spec import Spec
from orchestrator.home import Home
from orchestrator.placement import quote
from orchestrator.prices import Wanted, Work, rank
from providers.base import Offer, OfferQuery, Offers, Provider, Settings, Traits
from tests.fakes.memory_provider import MemoryProvider, offer

OFFERS = 20_000
ROUNDS = 11
RANKING_TARGET = 0.1
ANSWER_SECONDS = 0.3
TARGET = 0.3
GPUS = ("RTX4090", "RTX3090", "L4", "A100-80GB", "H100-SXM")
SIMULATED = {
    "aws": "providers.rehearsal.aws.cloud:AwsCloud",
    "runpod": "providers.rehearsal.runpod.cloud:RunpodCloud",
    "vast": "providers.rehearsal.vast.cloud:VastCloud",
}


def report() -> str:
    return "\n".join([_ranking(), _three_clouds(), _three_simulated_clouds()]).rstrip() + "\n"


class Stub(MemoryProvider):
    """A cloud that takes its time, and lists all it has."""

    def __init__(self, name: str, listed: Sequence[Offer], seconds: float = 0.0) -> None:
        super().__init__(_now, name=name, traits=Traits(is_container=True, usual_boot=60.0))
        self.listed = Offers(listed)
        self.seconds = seconds

    def offers(self, query: OfferQuery) -> Offers:  # noqa: ARG002 - it lists all it has
        time.sleep(self.seconds)
        return self.listed


def _ranking() -> str:
    rows = []
    for count in (OFFERS // 10, OFFERS):
        clouds = [Stub(name, _offers(name, count // 4)) for name in "abcd"]
        seconds = _timed(lambda clouds=clouds: quote(Spec(name="job", run="true"), clouds, egress_gb=Decimal(5)))  # type: ignore[misc]
        rows.append([f"{count:,}", spread(seconds), f"{RANKING_TARGET:.2f}" if count == OFFERS else ""])
    title = f"Ranking the offers of four clouds by what a job would cost (medians of {ROUNDS}, and range)"
    return table(title, ["offers", "s", "at most s"], rows)


def _three_clouds() -> str:
    """In this process: what asking, ranking and remembering add to the slowest answer."""
    clouds: dict[str, Provider] = {
        name: Stub(name, _offers(name, 2000), ANSWER_SECONDS) for name in ("first", "second", "third")
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder, _Registered(clouds):
        for names in (("first",), tuple(clouds)):
            wanted = Wanted(providers=names)
            seconds = _timed(lambda wanted=wanted: rank(wanted, Work(), home=Home(Path(folder)), env={}))  # type: ignore[misc]
            beyond = statistics.median(seconds) - ANSWER_SECONDS
            rows.append([str(len(names)), f"{2000 * len(names):,}", spread(seconds), f"{beyond:.2f}", f"{TARGET:.2f}"])
    title = f"Prices of clouds that answer after {ANSWER_SECONDS:g} s each (medians of {ROUNDS}, and range)"
    return table(title, ["clouds", "offers", "s", "beyond the slowest s", "at most s"], rows)


def _three_simulated_clouds() -> str:
    """`gpujob prices` as a whole process against the simulated clouds: alone, each; and together."""
    from providers.rehearsal.machines.paper import PaperMachines
    from providers.rehearsal.web import Served

    names = [name for name in SIMULATED if name in providers.names()]
    if not names:
        return ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        env = clean_environment(folder)
        for name in names:
            cloud = _cloud(SIMULATED[name])(PaperMachines(), latency_seconds=ANSWER_SECONDS)
            stack.enter_context(Served(cloud))
            env.update(cloud.environment())
        commands = {name: [GPUJOB, "prices", "--provider", name, "--json"] for name in names}
        commands["together"] = [GPUJOB, "prices", *(word for name in names for word in ("--provider", name)), "--json"]
        samples = in_turn(commands, env=env, rounds=ROUNDS)
    slowest = max(wall(samples[name]) for name in names)
    rows = [[name, spread([sample.wall_seconds for sample in samples[name]]), "", ""] for name in names]
    all_of_them = samples["together"]
    beyond = wall(all_of_them) - slowest
    together = spread([sample.wall_seconds for sample in all_of_them])
    rows.append(["all at once", together, f"{beyond:.2f}", f"{TARGET:.2f}"])
    title = f"`gpujob prices` on simulated clouds, {ANSWER_SECONDS:g} s for each of their answers (medians of {ROUNDS})"
    return table(title, ["cloud", "s", "beyond the slowest s", "at most s"], rows)


class _Registered:
    """These clouds in place of those that gpujob knows, for a while."""

    def __init__(self, clouds: dict[str, Provider]) -> None:
        self._clouds = clouds

    def __enter__(self) -> None:
        self._names, self._open = providers.names, providers.open_provider
        providers.names = lambda: tuple(self._clouds)
        providers.open_provider = self._opened

    def __exit__(self, *_: object) -> None:
        providers.names, providers.open_provider = self._names, self._open

    def _opened(self, name: str, settings: Settings) -> Provider:  # noqa: ARG002 - it is open already
        return self._clouds[name]


def _offers(provider: str, count: int) -> list[Offer]:
    """Offers as a marketplace has them, the same at each call."""
    chance = random.Random(provider)
    example = offer(gpu="L4", provider=provider, fetched_at=_now())
    return [
        replace(
            example,
            offer_id=f"{provider}-{number}",
            gpu=chance.choice(GPUS),
            usd_per_hour=Decimal(chance.randrange(1000, 40_000)) / 10_000,
            disk_usd_per_gb_month=Decimal(chance.randrange(5, 30)) / 100,
            egress_usd_per_gb=Decimal(chance.randrange(20)) / 1000,
            reliability=chance.random(),
            region=f"r{number % 40}",
            host_id=f"host-{number}",
        )
        for number in range(count)
    ]


def _timed(work: Callable[[], object]) -> list[float]:
    """Seconds of each of several calls; the first warms up and is thrown away."""
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def _cloud(target: str) -> type:
    module, _, name = target.partition(":")
    made: type = getattr(import_module(module), name)
    return made


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    print(report())
