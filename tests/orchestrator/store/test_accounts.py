"""Budgets in the store, on both databases: counts that follow the ledger, shares that never add up to more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.records import ChargeRow, Outcome, Phase
from orchestrator.store.rows import BudgetRow, LiveMachine, NoticeRow
from orchestrator.store.store import Store
from tests.orchestrator.store.conftest import SetClock
from tests.orchestrator.store.examples import NOON, a_charge, a_run, an_attempt

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
ALL = BudgetRow(project="", monthly_usd=Decimal("10"), set_at=NOON)
DIGITS = BudgetRow(
    project="digits",
    monthly_usd=Decimal("5"),
    soft_usd=Decimal("4.5"),
    webhook="https://hooks.example.org/${KEY}",
    apprise="slack://${TOKENS}",
    command=["notify", "a b"],
    set_at=NOON,
)


def book(store: Store, run_id: str, charges: Sequence[ChargeRow]) -> None:
    store.nudge(run_id)
    [lease] = store.claim("c", limit=1, lease_seconds=30)
    assert lease.run.id == run_id
    store.save(lease, lease.run, charges=charges, due_in=None)


def booked(store: Store, month: str = "2026-11") -> dict[str, Decimal]:
    return store.accounts.figures(month)[0]


def at_once(steps: Sequence[Callable[[], object]]) -> None:
    """All in threads; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(step: Callable[[], object]) -> None:
        try:
            step()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_budget_comes_back_and_a_new_one_takes_its_place(store: Store) -> None:
    for budget in (DIGITS, ALL):
        store.accounts.set_budget(budget, NOVEMBER)
    assert store.accounts.budgets() == [ALL, DIGITS]
    dearer = replace(DIGITS, monthly_usd=Decimal("6"), soft_usd=None, webhook=None, apprise=None, command=None)
    store.accounts.set_budget(dearer, NOVEMBER)
    assert store.accounts.budgets() == [ALL, dearer]
    assert store.accounts.remove_budget("digits") and not store.accounts.remove_budget("digits")
    assert store.accounts.budgets() == [ALL]


def test_every_charge_is_counted_in_its_month_and_project(store: Store) -> None:
    store.add_run(a_run("r-1", due_at=None))
    store.add_run(a_run("r-2", project="speech", due_at=None))
    october = NOVEMBER - timedelta(seconds=1)
    book(store, "r-1", [a_charge("r-1", "1.25"), a_charge("r-1", "-0.05"), a_charge("r-1", "7", start=october)])
    book(store, "r-2", [a_charge("r-2", "2.000000000001")])
    assert booked(store) == {
        "": Decimal("3.200000000001"),
        "digits": Decimal("1.2"),
        "speech": Decimal("2.000000000001"),
    }
    assert booked(store, "2026-10") == {"": 7, "digits": 7}


def test_setting_a_budget_counts_what_nobody_counted(store: Store) -> None:
    """A controller of an older version books and counts nothing."""
    store.add_run(a_run("r-1"))
    book(store, "r-1", [a_charge("r-1", "1.25"), a_charge("r-1", "7", start=NOVEMBER - timedelta(seconds=1))])
    with store._database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM booked_months")
    store.accounts.set_budget(ALL, NOVEMBER)
    assert booked(store) == {"": Decimal("1.25"), "digits": Decimal("1.25")}
    book(store, "r-1", [a_charge("r-1", "1")])
    assert booked(store)["digits"] == Decimal("2.25")


def test_the_count_is_right_whoever_books_or_counts_at_the_same_time(store: Store) -> None:
    for number in range(6):
        store.add_run(a_run(f"r-{number}", project=f"p{number % 2}", due_at=None))
    leases = {}
    for number in range(6):
        store.nudge(f"r-{number}")
        [lease] = store.claim("c", limit=1, lease_seconds=60)
        leases[lease.run.id] = lease

    def books(run_id: str) -> Callable[[], object]:
        def step() -> None:
            lease = leases[run_id]
            for _ in range(10):
                lease = store.save(lease, lease.run, charges=[a_charge(run_id, "0.10")], due_in=None, release=False)

        return step

    at_once([*(books(run_id) for run_id in leases), *[lambda: store.accounts.set_budget(ALL, NOVEMBER)] * 5])
    assert booked(store) == {"": Decimal("6.00"), "p0": Decimal("3.00"), "p1": Decimal("3.00")}


def test_counting_waits_for_whoever_is_just_booking(store: Store) -> None:
    store.add_run(a_run("r-1", due_at=None))
    counting = threading.Thread(target=store.accounts.set_budget, args=(ALL, NOVEMBER))
    with store._database.transaction() as connection:
        store._append(connection, (), [a_charge("r-1", "1.25")])
        store.accounts.book(connection, "digits", [a_charge("r-1", "1.25")])
        counting.start()
        counting.join(0.3)
        assert counting.is_alive()
    counting.join()
    assert booked(store) == {"": Decimal("1.25"), "digits": Decimal("1.25")}


def started(store: Store, run_id: str, *, project: str = "digits", phase: Phase = Phase.PROVISION, **run: Any) -> None:
    """A run whose machine has its name."""
    store.add_run(a_run(run_id, project=project))
    [lease] = store.claim("c", limit=1, lease_seconds=60)
    attempt = an_attempt(run_id, machine=f"m-{run_id}")
    store.save(lease, replace(lease.run, attempt=1, phase=phase, **run), attempts=[attempt], due_in=None)


def what_is_left(budget: BudgetRow, booked: Decimal, live: Sequence[LiveMachine], _waiting: object) -> Decimal:
    left = budget.monthly_usd - booked - sum((one.reserved or Decimal(0) for one in live), Decimal(0))
    return min(Decimal("1.5"), left)


def reserve(store: Store, run_id: str, project: str = "digits") -> tuple[Decimal, BudgetRow] | None:
    return store.accounts.reserve(run_id, project, f"m-{run_id}", "2026-11", what_is_left)


def test_shares_that_are_asked_for_at_once_never_add_up_to_more(store: Store) -> None:
    store.accounts.set_budget(ALL, NOVEMBER)
    store.accounts.set_budget(DIGITS, NOVEMBER)
    runs = [(f"r-{number}", "digits" if number % 2 else "speech") for number in range(12)]
    for run_id, project in runs:
        started(store, run_id, project=project)
    at_once([lambda run_id=run_id, project=project: reserve(store, run_id, project) for run_id, project in runs])  # type: ignore[misc]
    _, live = store.accounts.figures("2026-11")
    shares = [(one.project, one.reserved or Decimal(0)) for one in live]
    assert sum(usd for _, usd in shares) == 10
    assert sum(usd for project, usd in shares if project == "digits") <= 5


def test_a_share_is_asked_for_again_after_a_crash_and_is_one_share(store: Store) -> None:
    store.accounts.set_budget(DIGITS, NOVEMBER)
    started(store, "r-1")
    assert reserve(store, "r-1") == reserve(store, "r-1") == (Decimal("1.5"), DIGITS)
    [live] = store.accounts.figures("2026-11")[1]
    assert live.reserved == Decimal("1.5")


def test_the_narrowest_budget_says_how_much(store: Store) -> None:
    store.accounts.set_budget(replace(ALL, monthly_usd=Decimal("1")), NOVEMBER)
    store.accounts.set_budget(DIGITS, NOVEMBER)
    started(store, "r-1")
    found = reserve(store, "r-1")
    assert found is not None and (found[0], found[1].project) == (Decimal(1), "")


def test_nothing_is_set_aside_without_a_budget_or_without_money(store: Store) -> None:
    started(store, "r-1")
    assert reserve(store, "r-1") is None
    store.accounts.set_budget(replace(DIGITS, monthly_usd=Decimal("0.1")), NOVEMBER)
    store.add_run(a_run("r-2"))
    book(store, "r-2", [a_charge("r-2", "0.1")])
    found = reserve(store, "r-1")
    assert found is not None and found[0] == 0
    assert [one.reserved for one in store.accounts.figures("2026-11")[1]] == [None]


@pytest.mark.parametrize(
    ("phase", "changes", "is_live"),
    [
        (Phase.PROVISION, {}, True),
        (Phase.TEARDOWN, {}, True),
        (Phase.SETTLE, {"outcome": Outcome.SUCCEEDED}, False),  # all is booked, only the report is not drawn
        (Phase.QUOTE, {}, False),  # between two attempts
    ],
)
def test_a_share_is_given_back_when_the_machine_is_booked(
    store: Store, phase: Phase, changes: dict[str, Any], is_live: bool
) -> None:
    store.accounts.set_budget(DIGITS, NOVEMBER)
    started(store, "r-1", phase=phase, **changes)
    reserve(store, "r-1")
    assert [one.run_id for one in store.accounts.figures("2026-11")[1]] == (["r-1"] if is_live else [])


def test_the_share_of_an_earlier_machine_is_not_the_next_ones(store: Store) -> None:
    store.accounts.set_budget(DIGITS, NOVEMBER)
    started(store, "r-1")
    store.accounts.reserve("r-1", "digits", "an earlier one", "2026-11", what_is_left)
    [live] = store.accounts.figures("2026-11")[1]
    assert live.reserved is None


def test_who_waits_is_known_by_spec_and_project(store: Store) -> None:
    store.accounts.set_budget(ALL, NOVEMBER)
    store.accounts.set_budget(DIGITS, NOVEMBER)
    started(store, "r-1")
    started(store, "r-2", project="speech")  # has asked for nothing yet
    started(store, "r-3", phase=Phase.WATCH)
    store.add_run(a_run("r-4", spec={"limits": {"max_cost": "7"}}))
    store.add_run(a_run("r-5"))
    store.request_cancel("r-5")
    seen: dict[str, int] = {}

    def share(budget: BudgetRow, _booked: Decimal, live: Sequence[LiveMachine], waiting: Sequence[Any]) -> Decimal:
        seen[budget.project] = len(waiting)
        assert {"limits": {"max_cost": "7"}} in waiting
        assert {one.run_id for one in live} == ({"r-2", "r-3"} if budget.project == "" else {"r-3"})
        return Decimal(1)

    store.accounts.reserve("r-1", "digits", "m-r-1", "2026-11", share)
    assert seen == {"": 2, "digits": 1}


def a_notice(kind: str = "soft", **changes: Any) -> NoticeRow:
    notice = NoticeRow(month="2026-11", project="digits", kind=kind, text="half is gone", at=NOON, due_at=NOON)
    return replace(notice, **changes)


def test_a_notice_is_made_once_and_tried_until_it_is_delivered(store: Store, clock: SetClock) -> None:
    assert store.accounts.add_notice(a_notice()) and not store.accounts.add_notice(a_notice(text="again"))
    assert store.accounts.add_notice(a_notice("hard", due_at=None))
    assert store.accounts.has_notices()
    [first] = store.accounts.claim_notices(60)
    assert (first.text, first.tries) == ("half is gone", 1)
    assert not store.accounts.has_notices() and store.accounts.claim_notices(60) == []
    clock.advance(60)
    [second] = store.accounts.claim_notices(60)
    clock.advance(119)
    assert store.accounts.claim_notices(60) == [], "the pauses grow"
    clock.advance(1)
    [third] = store.accounts.claim_notices(60)
    assert (second.tries, third.tries) == (2, 3)
    store.accounts.notice_delivered(third)
    clock.advance(10**6)
    assert not store.accounts.has_notices() and not store.accounts.add_notice(a_notice())
