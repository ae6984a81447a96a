"""What is drawn for a round: the same for the same seed, and in many seeds everything that there is."""

from __future__ import annotations

from collections import Counter

from providers.rehearsal.faults import ON_MACHINES, ON_THE_WIRE
from tests.chaos.plans import CLOUDS, PHASES, WITH_SPOT, draw
from tests.chaos.troubles import COUPLES, TROUBLES

MANY = [draw(seed) for seed in range(3000)]


def test_the_same_seed_is_the_same_plan() -> None:
    assert [draw(seed) for seed in range(50)] == MANY[:50]
    assert len({str(plan) for plan in MANY}) == len(MANY)


def test_a_plan_never_changes_with_the_computer() -> None:
    """A seed in a report is worth something only if it draws the same in a year."""
    plan = draw(1)
    assert (plan.cloud, plan.spot, plan.job.lines, plan.faults) == ("vast", True, 2305, ())
    assert [str(strike) for strike in plan.strikes] == ["controller (0 s) 0.326 s after phase teardown"]


def test_every_kind_of_fault_has_its_place() -> None:
    kinds = set(ON_THE_WIRE) | set(ON_MACHINES)
    assert {trouble.kind for trouble in TROUBLES} == kinds
    assert {fault.kind for plan in MANY for fault in plan.faults} == kinds
    assert {trouble.kind for trouble in COUPLES} <= kinds


def test_everything_is_drawn_sometimes() -> None:
    assert set(Counter(plan.cloud for plan in MANY)) == set(CLOUDS)
    strikes = [strike for plan in MANY for strike in plan.strikes]
    assert {strike.kind for strike in strikes} == {"controller", "agent", "agents", "sessions", "silence"}
    moments = {(strike.when.after, strike.when.name) for strike in strikes if strike.kind == "controller"}
    assert moments >= {("phase", phase) for phase in PHASES}
    assert moments >= {("call", "create"), ("call", "terminate"), ("call", "list"), ("submission", "")}
    jobs = [plan.job for plan in MANY]
    assert any(job.exit_code for job in jobs) and any(job.checkpointed for job in jobs)


def test_a_fault_is_drawn_only_where_it_can_strike() -> None:
    for plan in MANY:
        kinds = {fault.kind for fault in plan.faults}
        assert plan.cloud in ("aws", "vast") or "quota" not in kinds
        if "preempt" in kinds:
            assert plan.spot and plan.cloud in WITH_SPOT


def test_what_would_be_waited_for_too_long_is_cancelled() -> None:
    for plan in MANY:
        for fault in plan.faults:
            if fault.kind == "stuck_boot" or (fault.kind in ("host_dies", "network_cut") and not fault.lasts):
                assert plan.cancel is not None and "cancelled" in plan.expected


def test_with_fewer_clouds_only_those_are_drawn() -> None:
    assert {draw(seed, ["vast"]).cloud for seed in range(50)} == {"vast"}
