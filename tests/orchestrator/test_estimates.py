"""How long a job will take: by earlier runs, scaled where they were elsewhere, never longer than it may, and said."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from jobs.spec import Spec
from orchestrator.estimates import Basis, Estimates, Hardware, Past
from orchestrator.frontier import frontier, mark
from orchestrator.placement import for_job
from providers.base import Traits
from tests.fakes.memory_provider import offer

RENTED = Traits(is_container=True, usual_boot=60.0)
SIMULATED = Traits(is_container=True, usual_boot=60.0, simulated=True)
ON_4090 = offer("a", gpu="RTX4090")


def spec(**content: Any) -> Spec:
    return Spec.model_validate({"name": "job", "run": "python train.py", "resources": {"gpu": "RTX4090"}, **content})


def past(run_id: str = "r-1", seconds: float = 300.0, gpu: str = "RTX4090", **changes: Any) -> Past:
    known: dict[str, Any] = {
        "hardware": Hardware(gpu, 1),
        "provider": "vast",
        "is_simulated": False,
        "overhead_seconds": 100.0,
        "boot_seconds": 40.0,
        "fetched_bytes": 0,
        "command": "python train.py",
        "env": {},
        "digest": "d1",
    }
    return Past(run_id=run_id, job_seconds=seconds, **{**known, **changes})


def test_nothing_known_is_an_hour_and_says_so() -> None:
    estimate = Estimates(spec()).at(ON_4090, RENTED)
    assert (estimate.job_seconds, estimate.overhead_seconds, estimate.basis) == (3600.0, 60.0, Basis.NOTHING)
    assert estimate.rests_on == "nothing known: 1h 00m assumed" and estimate.hours == Decimal(3660) / 3600


def test_the_same_gpu_is_the_median_with_its_range_wherever_it_was() -> None:
    runs = [past("r-1", 300), past("r-2", 360, provider="runpod"), past("r-3", 900)]
    estimate = Estimates(spec(), runs).at(ON_4090, RENTED)
    assert (estimate.job_seconds, estimate.least, estimate.most) == (360.0, 300.0, 900.0)
    assert estimate.rests_on == "3 earlier runs on RTX4090" and not estimate.is_guess


def test_two_of_a_gpu_are_another_machine_than_one() -> None:
    runs = [past("r-1", 300), past("r-2", 170, hardware=Hardware("RTX4090", 2))]
    estimate = Estimates(spec(), runs).at(offer("b", gpu="RTX4090", gpu_count=2), RENTED)
    assert (estimate.job_seconds, estimate.rests_on) == (170.0, "1 earlier run on 2x RTX4090")


def test_another_gpu_is_scaled_by_the_makers_figures_and_called_a_guess() -> None:
    estimate = Estimates(spec(), [past(seconds=300.0)]).at(offer("b", gpu="H100-SXM"), RENTED)
    assert estimate.job_seconds == pytest.approx(300 * 165.2 / 989, rel=0.01)
    assert estimate.rests_on == "scaled from 1 earlier run on RTX4090 by data-sheet TFLOP/s: a guess"
    assert estimate.is_guess


def test_measured_speeds_go_before_the_makers_figures() -> None:
    measured = {"RTX4090": 2.0, "H100-SXM": 5.0}
    known = Estimates(spec(), [past(seconds=300.0)], speeds=lambda gpu, count: measured.get(gpu))
    estimate = known.at(offer("b", gpu="H100-SXM"), RENTED)
    assert estimate.job_seconds == 120.0 and not estimate.is_guess
    assert estimate.rests_on == "scaled from 1 earlier run on RTX4090 by measured speed"
    assert known.at(offer("c", gpu="L4"), RENTED).basis is Basis.TFLOPS, "nobody measured an L4"


def test_the_nearest_gpu_is_scaled_from() -> None:
    runs = [past("r-1", 100, gpu="H100-SXM"), past("r-2", 1000, gpu="L4"), past("r-3", 1000, gpu="L4")]
    told = Estimates(spec(), runs).at(offer("b", gpu="H200"), RENTED).rests_on
    assert told.startswith("scaled from 1 earlier run on H100-SXM by")


def test_a_speed_that_nobody_knows_leaves_the_choice_to_the_price() -> None:
    estimate = Estimates(spec(), [past(seconds=300.0)]).at(offer("b", gpu="RTX 9090 Ultra"), RENTED)
    assert (estimate.job_seconds, estimate.basis) == (300.0, Basis.ELSEWHERE)
    assert estimate.rests_on == "taken as long as 1 earlier run on RTX4090: a guess"


def test_without_a_gpu_only_the_same_cpus_at_the_same_provider_are_the_same() -> None:
    job = spec(resources={"gpu": "cpu"})
    runs = [
        past("r-1", 50, hardware=Hardware(None, 0, "memory", 16.0)),
        past("r-2", 80, hardware=Hardware(None, 0, "aws", 16.0)),
    ]
    known = Estimates(job, runs)
    same = known.at(offer("cpu"), RENTED)
    assert (same.job_seconds, same.rests_on) == (50.0, "1 earlier run on 16 CPUs at memory")
    assert known.at(offer("idle", gpu="L4"), RENTED).job_seconds == 50.0, "an idle GPU makes a CPU job no faster"
    smaller = known.at(offer("small", vcpus=4.0), RENTED)
    assert (smaller.job_seconds, smaller.basis) == (65.0, Basis.ELSEWHERE)
    assert "16 CPUs at memory and 16 CPUs at aws: a guess" in smaller.rests_on


def test_other_arguments_count_only_when_there_are_no_others_and_are_said() -> None:
    short = past("r-1", 60, env={"EPOCHS": "1"})
    long = past("r-2", 6000, env={"EPOCHS": "100"})
    job = spec(env={"EPOCHS": "100"})
    assert Estimates(job, [short, long]).at(ON_4090, RENTED).job_seconds == 6000.0
    told = Estimates(job, [short]).at(ON_4090, RENTED)
    assert (told.job_seconds, told.rests_on) == (60.0, "1 earlier run on RTX4090, with other arguments")
    other_command = past("r-3", 60, command="python train.py --epochs 1", env={"EPOCHS": "100"})
    assert Estimates(job, [other_command, long]).at(ON_4090, RENTED).job_seconds == 6000.0


def test_arguments_weigh_more_than_the_gpu() -> None:
    runs = [past("r-1", 60, env={"EPOCHS": "1"}), past("r-2", 6000, gpu="RTX3090")]
    told = Estimates(spec(), runs).at(ON_4090, RENTED)
    assert told.basis is Basis.TFLOPS and told.job_seconds > 1000


def test_the_same_files_count_first_and_others_are_said() -> None:
    runs = [past("r-1", 300, digest="d2"), past("r-2", 900, digest="d1")]
    assert Estimates(spec(), runs, digest="d2").at(ON_4090, RENTED).job_seconds == 300.0
    assert Estimates(spec(), runs).at(ON_4090, RENTED).job_seconds == 600.0, "nobody knows the files yet"
    told = Estimates(spec(), runs, digest="d3").at(ON_4090, RENTED)
    assert (told.job_seconds, told.rests_on) == (600.0, "2 earlier runs on RTX4090, with other files")


@pytest.mark.parametrize(("traits", "seconds"), [(RENTED, 300.0), (SIMULATED, 5.0)])
def test_a_rehearsal_says_nothing_about_a_real_machine(traits: Traits, seconds: float) -> None:
    runs = [past("r-1", 300), past("r-2", 5, is_simulated=True)]
    assert Estimates(spec(), runs).at(ON_4090, traits).job_seconds == seconds
    others = [run for run in runs if run.job_seconds != seconds]
    told = Estimates(spec(), others).at(ON_4090, traits)
    other = "real" if traits.simulated else "simulated"
    assert told.rests_on == f"nothing known: 1h 00m assumed; 1 earlier run on {other} machines not counted"
    assert ("simulated" in Estimates(spec(), runs).at(ON_4090, traits).rests_on) is traits.simulated


def test_what_is_around_the_job_is_as_it_was_there_or_a_boot_and_the_rest() -> None:
    known = Estimates(spec(), [past("r-1", 300, overhead_seconds=100.0, boot_seconds=40.0)])
    assert known.at(offer("a", gpu="RTX4090", provider="vast"), RENTED).overhead_seconds == 100.0
    assert known.at(offer("a", gpu="RTX4090", provider="aws"), RENTED).overhead_seconds == 60.0 + 60.0


def test_it_is_never_longer_than_the_job_may_take() -> None:
    draw = random.Random(4090)
    gpus = ("RTX4090", "RTX3090", "L4", "H100-SXM", "T4", "unheard of")
    for _ in range(300):
        longest = draw.choice([1, 60, 900, 7200])
        job = spec(limits={"max_duration": f"{longest}s"}, env=draw.choice([{}, {"A": "1"}]))
        runs = [
            past(f"r-{n}", draw.uniform(0, 10_000), gpu=draw.choice(gpus), is_simulated=draw.random() < 0.3)
            for n in range(draw.randrange(5))
        ]
        estimate = Estimates(job, runs, digest=draw.choice([None, "d1", "d9"])).at(
            offer("x", gpu=draw.choice(gpus), gpu_count=draw.choice([1, 8])), draw.choice([RENTED, SIMULATED])
        )
        assert 0 <= estimate.job_seconds <= longest
        assert estimate.least is None or 0 <= estimate.least <= estimate.job_seconds <= (estimate.most or 0) <= longest
        assert estimate.rests_on


def test_what_is_cut_says_so() -> None:
    job = spec(limits={"max_duration": "10m"})
    assert Estimates(job, [past(seconds=7000)]).at(ON_4090, RENTED).rests_on.endswith("; cut at limits.max_duration")
    assert Estimates(job).at(ON_4090, RENTED).rests_on == "nothing known: limits.max_duration, 10m 00s, assumed"


def test_what_comes_back_is_the_median_of_what_came_back() -> None:
    runs = [past(f"r-{n}", fetched_bytes=n * 10**9) for n in (1, 2, 6)]
    known = Estimates(spec(), [*runs, past("r-9", fetched_bytes=10**12, is_simulated=True)])
    assert known.egress_gb() == 2 and known.egress_gb(is_simulated=True) == 1000
    assert Estimates(spec()).egress_gb() == 0


def test_what_it_cost_before_is_of_hardware_that_the_job_may_have() -> None:
    runs = [past("r-1", 300), past("r-2", 400), past("r-3", 500, gpu="L4"), past("r-4", 1, is_simulated=True)]
    usd = {"r-1": Decimal("0.03"), "r-2": Decimal("0.05"), "r-3": Decimal(9), "r-4": Decimal(9)}
    before = Estimates(spec(), runs).before(usd)
    assert before is not None
    assert (before.usd, before.least_usd, before.most_usd) == (Decimal("0.04"), Decimal("0.03"), Decimal("0.05"))
    assert (before.job_seconds, before.rests_on) == (350.0, "2 earlier runs on RTX4090")
    elsewhere = Estimates(spec(resources={"gpu": "H100-SXM"}), runs).before(usd)
    assert elsewhere is None
    rehearsed = Estimates(spec(), runs[3:]).before(usd)
    assert rehearsed is not None and rehearsed.rests_on == "1 earlier run on RTX4090, simulated"
    assert Estimates(spec(place={"providers": ["local"]}), runs).before(usd) is None


def test_nothing_on_the_frontier_is_beaten_and_what_is_not_on_it_is() -> None:
    draw = random.Random(7)
    for _ in range(300):
        points = [(float(draw.randrange(6)), Decimal(draw.randrange(6))) for _ in range(draw.randrange(1, 12))]
        best = frontier(points)
        for seconds, usd in points:
            beaten = any((other, cost) != (seconds, usd) and other <= seconds and cost <= usd for other, cost in points)
            assert ((seconds, usd) in best) is not beaten


def test_what_is_not_of_now_beats_nothing_and_is_not_marked() -> None:
    known = Estimates(spec(), [past()])
    prices = {"old": "0.10", "usual": "0.30", "dear": "0.60"}
    found = [
        for_job(offer(name, gpu="RTX4090", usd_per_hour=usd), RENTED, known, disk_gb=Decimal(0), ingress_gb=Decimal(0))
        for name, usd in prices.items()
    ]
    marked = mark([found[0]._replace(is_stale=True), *found[1:], found[2]._replace(estimate=None)])
    assert [one.is_best for one in marked] == [False, True, False, False]
