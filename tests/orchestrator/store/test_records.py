"""What is written comes back exactly, and what must not change cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from orchestrator.records import Phase, Run
from orchestrator.store.store import RunAmbiguous, RunNotFound, Store, StoreBroken, StoreConflict, StoreTooNew
from tests.orchestrator.store.examples import (
    NOON,
    a_charge,
    a_finished_attempt,
    a_finished_run,
    a_run,
    an_attempt,
    an_event,
)


def _claimed_and_saved(store: Store, run: Run, **records: object) -> None:
    store.add_run(replace(run, due_at=NOON, phase=Phase.QUOTE))
    (lease,) = store.claim("c1", limit=1, lease_seconds=30)
    store.save(lease, run, due_in=None, **records)  # type: ignore[arg-type]


@pytest.mark.parametrize("run", [a_run(), a_finished_run()], ids=["new", "finished"])
def test_a_run_comes_back_as_it_was(store: Store, run: Run) -> None:
    store.add_run(run)
    assert store.run(run.id) == run


def test_everything_that_a_phase_writes_comes_back(store: Store) -> None:
    run = a_finished_run(cancel_requested_at=None, nudged_at=None)
    attempts = [a_finished_attempt(number=1), an_attempt(number=2)]
    _claimed_and_saved(store, run, attempts=attempts, events=[an_event(details={"a": 1})], charges=[a_charge()])
    assert store.run(run.id) == run
    assert store.attempts(run.id) == attempts
    assert [replace(event, id=None) for event in store.events(run.id)] == [an_event(details={"a": 1})]
    assert [replace(row, id=None) for row in store.charges()] == [a_charge()]


def test_an_attempt_is_replaced_by_its_newer_self(store: Store) -> None:
    store.add_run(a_run())
    (lease,) = store.claim("c1", limit=1, lease_seconds=30)
    lease = store.save(lease, lease.run, attempts=[an_attempt()], due_in=None, release=False)
    store.save(lease, lease.run, attempts=[an_attempt(instance_id="i-1", gone_at=NOON)], due_in=0)
    assert store.attempts("r-7k2m9x") == [an_attempt(instance_id="i-1", gone_at=NOON)]


def test_two_attempts_cannot_have_one_machine(store: Store) -> None:
    store.add_run(a_run())
    (lease,) = store.claim("c1", limit=1, lease_seconds=30)
    twins = [an_attempt(number=1, machine="m"), an_attempt(number=2, machine="m")]
    with pytest.raises(StoreConflict):
        store.save(lease, lease.run, attempts=twins, due_in=0)
    assert store.attempts("r-7k2m9x") == []


def test_an_id_is_used_once(store: Store) -> None:
    store.add_run(a_run())
    with pytest.raises(StoreConflict):
        store.add_run(a_run(name="other"))
    assert store.run("r-7k2m9x").name == "mnist"


def test_text_that_no_database_takes_is_kept_as_far_as_it_can_be(store: Store) -> None:
    store.add_run(a_run(error="half \udc80 and nul \x00 end"))
    assert store.run("r-7k2m9x").error == "half ? and nul \ufffd end"


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="without a zone"):
        store.add_run(a_run(ended_at=datetime(2026, 1, 1)))  # noqa: DTZ001


@pytest.mark.parametrize("amount", [1.5, Decimal("NaN"), Decimal("Infinity")])
def test_what_is_not_money_is_refused(store: Store, amount: object) -> None:
    store.add_run(a_run())
    (lease,) = store.claim("c1", limit=1, lease_seconds=30)
    with pytest.raises(ValueError, match="not an amount"):
        store.save(lease, lease.run, charges=[a_charge(amount_usd=amount)], due_in=0)


@pytest.mark.parametrize("change", ["UPDATE charges SET amount_usd = '0'", "DELETE FROM charges"])
def test_the_ledger_cannot_be_changed(store: Store, change: str) -> None:
    _claimed_and_saved(store, a_finished_run(), charges=[a_charge()])
    with pytest.raises(StoreConflict, match="append-only"), store._database.transaction() as connection:
        connection.exec_driver_sql(change)
    assert store.spent(["r-7k2m9x"]) == {"r-7k2m9x": Decimal("0.10")}


def test_a_word_of_a_newer_version_is_named(store: Store) -> None:
    store.add_run(a_run())
    with store._database.transaction() as connection:
        connection.exec_driver_sql("UPDATE runs SET phase = 'dream'")
    with pytest.raises(StoreTooNew, match=r"r-7k2m9x.*unknown Phase 'dream'.*upgrade"):
        store.run("r-7k2m9x")
    with pytest.raises(StoreTooNew):
        store.claim("c1", limit=1, lease_seconds=30)
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT lease_owner FROM runs").scalar_one() is None


@pytest.mark.parametrize("nonsense", ["spec = '{'", "phase_since = 4611686018427387904"])
def test_a_row_that_makes_no_sense_is_named(store: Store, nonsense: str) -> None:
    store.add_run(a_run())
    with store._database.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE runs SET {nonsense}")
    with pytest.raises(StoreBroken, match=r"table runs, row 'r-7k2m9x' makes no sense"):
        store.runs()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r-abc1", "r-abc1"),
        ("r-abd", "r-abd9"),
        ("mnist", "r-abd9"),
        ("r-abc", "r-abc"),  # a whole id, though another begins with it
        ("r", "r-xyz"),  # a name, though many ids begin with it
        ("r-x_", None),
        ("r-%", None),
        ("", None),
        ("nobody", None),
    ],
)
def test_finding_a_run(store: Store, text: str, expected: str | None) -> None:
    runs = [("r-abc1", "mnist"), ("r-abd9", "mnist"), ("r-abc", "other"), ("r-xyz", "r")]
    for minutes, (run_id, name) in enumerate(runs):
        store.add_run(a_run(run_id, name=name, created_at=NOON + timedelta(minutes=minutes)))
    if expected:
        assert store.find(text).id == expected
        return
    with pytest.raises(RunNotFound, match=repr(text)):
        store.find(text)


def test_an_ambiguous_prefix_names_the_runs(store: Store) -> None:
    store.add_run(a_run("r-abc1"))
    store.add_run(a_run("r-abc2"))
    with pytest.raises(RunAmbiguous, match="r-abc2, r-abc1"):
        store.find("r-ab")


def test_runs_are_listed_newest_first(store: Store) -> None:
    for minutes, run in enumerate([a_run("a"), a_finished_run("b", name="x"), a_run("c", project="p")]):
        store.add_run(replace(run, created_at=NOON + timedelta(minutes=minutes)))

    def ids(runs: list[Run]) -> str:
        return "".join(run.id for run in runs)

    assert ids(store.runs()) == "cba"
    assert ids(store.runs(limit=2)) == "cb"
    assert ids(store.runs(active=True)) == "ca"
    assert ids(store.runs(active=False)) == "b"
    assert ids(store.runs(name="mnist", project="digits")) == "a"
    assert ids(store.runs(name="none")) == ""


def test_no_such_run(store: Store) -> None:
    with pytest.raises(RunNotFound, match="no run 'r-0'"):
        store.run("r-0")


def test_attempts_and_sums_of_more_runs_than_fit_in_one_question(store: Store) -> None:
    ids = [f"r-{number:04}" for number in range(1100)]
    _claimed_and_saved(store, a_finished_run(ids[-1]), attempts=[an_attempt(ids[-1], n) for n in (2, 1)])
    assert [attempt.number for attempt in store.attempts_of(ids)[ids[-1]]] == [1, 2]
    assert len(store.attempts_of(ids)) == 1100
    assert store.spent(ids)[ids[0]] == 0
    assert store.attempts_of([]) == {}


def test_sums_are_exact(store: Store) -> None:
    _claimed_and_saved(store, a_finished_run(), charges=[a_charge(amount="0.1"), a_charge(amount="0.200000000001")])
    assert store.spent(["r-7k2m9x"]) == {"r-7k2m9x": Decimal("0.300000000001")}


def test_events_are_read_on_from_the_last_one(store: Store) -> None:
    store.add_run(a_run(), [an_event(text="one"), an_event(text="two")])
    one, two = store.events("r-7k2m9x")
    assert [event.text for event in store.events("r-7k2m9x", after=one.id or 0)] == ["two"]
    assert store.events("r-7k2m9x", after=two.id or 0) == []


def test_charges_belong_to_the_period_in_which_they_start(store: Store) -> None:
    hours = [a_charge(start=NOON + timedelta(hours=hour), amount=str(hour)) for hour in range(4)]
    _claimed_and_saved(store, a_finished_run(), charges=hours)
    since, until = NOON + timedelta(hours=1), NOON + timedelta(hours=3)
    assert [row.amount_usd for row in store.charges(since=since, until=until)] == [1, 2]
    assert len(store.charges(run_id="r-7k2m9x")) == 4
    assert store.charges(run_id="other") == []
