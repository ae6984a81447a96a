"""Who may change a run, and when a run is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.records import Phase
from orchestrator.store.store import Lease, LeaseLost, RunNotFound, Store
from tests.orchestrator.store.conftest import SetClock
from tests.orchestrator.store.examples import NOON, a_charge, a_finished_run, a_run, an_attempt, an_event


def _claim(store: Store, controller: str = "c1") -> Lease:
    (lease,) = store.claim(controller, limit=1, lease_seconds=30)
    return lease


def _is_due(store: Store) -> bool:
    return store.next_due() == 0 and len(store.claim("probe", limit=1, lease_seconds=30)) == 1


def test_due_runs_are_claimed_oldest_first(store: Store) -> None:
    for run_id, seconds in [("late", 2), ("early", 1), ("later", 3), ("tomorrow", 86400)]:
        store.add_run(a_run(run_id, created_at=NOON - timedelta(days=1), due_at=NOON + timedelta(seconds=seconds - 10)))
    store.add_run(a_finished_run("done"))
    first = store.claim("c1", limit=2, lease_seconds=30)
    assert [lease.run.id for lease in first] == ["early", "late"]
    assert [lease.run.lease_owner for lease in first] == ["c1", "c1"]
    assert [lease.run.id for lease in store.claim("c2", limit=9, lease_seconds=30)] == ["later"]
    assert store.claim("c3", limit=9, lease_seconds=30) == []


def test_a_lease_ends_with_its_time(store: Store, clock: SetClock) -> None:
    store.add_run(a_run())
    first = _claim(store, "c1")
    clock.advance(29)
    assert store.claim("c2", limit=1, lease_seconds=30) == []
    assert store.next_due() == 1
    clock.advance(2)
    second = _claim(store, "c2")
    assert second.token > first.token


def test_a_renewed_lease_holds_on(store: Store, clock: SetClock) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    clock.advance(29)
    store.renew([lease], 30)
    clock.advance(29)
    assert store.claim("c2", limit=1, lease_seconds=30) == []


@pytest.mark.parametrize("next_holder", ["c2", "c1"])
def test_nothing_is_written_under_a_lost_lease(store: Store, clock: SetClock, next_holder: str) -> None:
    store.add_run(a_run())
    lost = _claim(store, "c1")
    clock.advance(31)
    held = _claim(store, next_holder)
    changed = replace(lost.run, phase=Phase.DONE)
    with pytest.raises(LeaseLost):
        store.save(lost, changed, attempts=[an_attempt()], events=[an_event()], charges=[a_charge()], due_in=None)
    store.renew([lost], 9999)
    store.postpone([(lost, 9999)])
    assert store.run("r-7k2m9x") == held.run
    assert not store.attempts("r-7k2m9x")
    assert not store.events("r-7k2m9x")
    assert not store.charges()


def test_a_late_save_counts_while_nobody_else_has_the_run(store: Store, clock: SetClock) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    clock.advance(31)
    store.save(lease, replace(lease.run, phase=Phase.BOOT), due_in=0)
    assert store.run("r-7k2m9x").phase is Phase.BOOT


def test_one_lease_saves_once(store: Store) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    store.save(lease, lease.run, due_in=5)
    with pytest.raises(LeaseLost):
        store.save(lease, lease.run, due_in=5)


@pytest.mark.parametrize("how", ["save", "postpone"])
def test_a_released_run_is_due_after_its_delay(store: Store, clock: SetClock, how: str) -> None:
    store.add_run(a_run())
    _release(store, _claim(store), how)
    assert store.next_due() == 7.5
    clock.advance(7.4)
    assert store.claim("c2", limit=1, lease_seconds=30) == []
    clock.advance(0.1)
    assert _is_due(store)


@pytest.mark.parametrize("how", ["save", "postpone"])
def test_a_nudge_while_leased_is_not_lost(store: Store, clock: SetClock, how: str) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    store.nudge("r-7k2m9x")
    assert store.claim("c2", limit=1, lease_seconds=30) == []
    _release(store, lease, how)
    assert _is_due(store)
    assert store.run("r-7k2m9x").nudged_at == clock()


@pytest.mark.parametrize("how", ["save", "postpone"])
def test_a_nudge_that_was_seen_is_not_seen_again(store: Store, how: str) -> None:
    store.add_run(a_run())
    store.nudge("r-7k2m9x")
    _release(store, _claim(store), how)
    assert store.next_due() == 7.5


@pytest.mark.parametrize("how", ["save", "postpone"])
def test_a_cancel_while_leased_is_not_lost(store: Store, clock: SetClock, how: str) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    assert store.request_cancel("r-7k2m9x")
    _release(store, lease, how)
    assert _claim(store, "c2").run.cancel_requested_at == clock()


def test_a_nudge_makes_a_waiting_run_due(store: Store) -> None:
    store.add_run(a_run(due_at=NOON + timedelta(hours=1)))
    store.nudge("r-7k2m9x")
    assert _is_due(store)


def test_the_first_cancel_counts(store: Store, clock: SetClock) -> None:
    store.add_run(a_run(due_at=NOON + timedelta(hours=1)))
    assert store.request_cancel("r-7k2m9x")
    clock.advance(60)
    assert store.request_cancel("r-7k2m9x")
    assert store.run("r-7k2m9x").cancel_requested_at == NOON
    assert _is_due(store)


def test_a_finished_run_is_neither_cancelled_nor_nudged(store: Store) -> None:
    run = a_finished_run(cancel_requested_at=None, nudged_at=None)
    store.add_run(run)
    assert not store.request_cancel(run.id)
    store.nudge(run.id)
    assert store.run(run.id) == run
    assert store.next_due() is None


def test_a_run_that_ends_while_it_is_cancelled_stays_ended(store: Store) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    store.request_cancel("r-7k2m9x")
    store.save(lease, replace(lease.run, phase=Phase.DONE), due_in=None)
    assert store.next_due() is None


def test_cancelling_nothing(store: Store) -> None:
    with pytest.raises(RunNotFound):
        store.request_cancel("r-0")
    with pytest.raises(RunNotFound):
        store.nudge("r-0")


def test_a_saved_lease_shows_a_cancel_that_came_meanwhile(store: Store, clock: SetClock) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    store.request_cancel("r-7k2m9x")
    kept = store.save(lease, replace(lease.run, phase=Phase.PROVISION), due_in=None, release=False)
    assert kept.run.cancel_requested_at == clock()
    assert kept.run.phase is Phase.PROVISION
    assert kept.run == store.run("r-7k2m9x")


def test_a_run_that_is_kept_goes_on_elsewhere_when_its_holder_dies(store: Store, clock: SetClock) -> None:
    store.add_run(a_run())
    store.save(_claim(store), a_run(phase=Phase.BOOT), due_in=None, release=False)
    assert store.claim("c2", limit=1, lease_seconds=30) == []
    clock.advance(31)
    assert _claim(store, "c2").run.phase is Phase.BOOT


def test_a_phase_cannot_change_what_is_not_its_own(store: Store) -> None:
    store.add_run(a_run())
    lease = _claim(store)
    store.request_cancel("r-7k2m9x")
    store.save(lease, a_run(name="other", spec={}, cancel_requested_at=None, lease_owner="thief"), due_in=1)
    run = store.run("r-7k2m9x")
    assert (run.name, run.spec, run.lease_owner) == ("mnist", a_run().spec, None)
    assert run.cancel_requested_at is not None


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_the_submitters_clock_does_not_matter(store: Store, seconds: int) -> None:
    theirs = NOON + timedelta(seconds=seconds)
    store.add_run(a_run(created_at=theirs, due_at=theirs))
    assert _is_due(store)


def test_a_clock_that_goes_back_strands_no_run(store: Store, clock: SetClock) -> None:
    store.add_run(a_run())
    store.postpone([(_claim(store), 10)])
    clock.advance(-3 * 3600)
    assert _is_due(store)


def test_who_is_alone_may_end_the_leases_of_the_dead(store: Store) -> None:
    store.add_run(a_run())
    dead = _claim(store)
    assert store.void_leases() == 1
    assert _claim(store, "c2").token > dead.token
    with pytest.raises(LeaseLost):
        store.save(dead, dead.run, due_in=0)


def test_postponing_nothing(store: Store) -> None:
    store.postpone([])
    store.renew([], 30)
    assert store.next_due() is None


def test_bad_hosts_are_remembered_for_a_while(store: Store, clock: SetClock) -> None:
    store.remember("vast", "host-1", "no CUDA", 60)
    store.remember("vast", "host-2", "slow disk", 600)
    store.remember("vast", "host-1", "no driver", 90)
    assert store.remembered() == {("vast", "host-1"): "no driver", ("vast", "host-2"): "slow disk"}
    clock.advance(90)
    store.remember("aws", "g6.xlarge", "no capacity", 60)
    assert store.remembered() == {("vast", "host-2"): "slow disk", ("aws", "g6.xlarge"): "no capacity"}


def test_controllers_that_live_are_known(store: Store, clock: SetClock) -> None:
    for controller in ("c1", "c2", "c3"):
        store.register_controller(controller, "laptop", 42)
    clock.advance(40)
    store.beat_controller("c1")
    store.forget_controller("c3")
    assert [row.id for row in store.controllers()] == ["c1", "c2"]
    clock.advance(40)
    (row,) = store.controllers()
    assert (row.id, row.host, row.pid, row.started_at) == ("c1", "laptop", 42, NOON)


def _release(store: Store, lease: Lease, how: str) -> None:
    if how == "save":
        store.save(lease, lease.run, due_in=7.5)
    else:
        store.postpone([(lease, 7.5)])
