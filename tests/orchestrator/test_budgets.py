"""The arithmetic of monthly budgets: what counts in which month, and how what is free is divided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator import ledger
from orchestrator.budgets import Account, account, month_starts, share, standing
from orchestrator.records import Attempt
from orchestrator.store.accounts import month_of
from orchestrator.store.rows import BudgetRow, LiveMachine
from providers.base import Meter

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CENT_A_SECOND = Meter(name="compute", unit="hour", usd_per_unit=Decimal(36))
BUDGET = BudgetRow(project="", monthly_usd=Decimal(20), soft_usd=Decimal(15), set_at=NOON)


def machine(*, since: datetime = NOON, reserved: str | None = None, **changes: Any) -> LiveMachine:
    values: dict[str, Any] = {"created_at": since, "billing_from": since, "running_from": since}
    attempt = Attempt(
        run_id="r-1",
        number=1,
        machine="m",
        provider="memory",
        offer={},
        meters=ledger.meters_to_json([CENT_A_SECOND]),
        **{**values, **changes},
    )
    return LiveMachine(
        run_id="r-1", project="p", attempt=attempt, reserved=None if reserved is None else Decimal(reserved)
    )


def after(seconds: float, live: Sequence[LiveMachine], booked: str = "0") -> Account:
    return at(NOON + timedelta(seconds=seconds), live, booked)


def at(now: datetime, live: Sequence[LiveMachine], booked: str = "0") -> Account:
    return account(BUDGET, Decimal(booked), [standing(one, now) for one in live], now)


def test_booked_and_accrued_are_spent_and_the_rest_of_a_share_is_not_free() -> None:
    stands = after(100, [machine(reserved="5")], booked="2")
    assert (stands.spent, stands.worst, stands.left, stands.free) == tuple(map(Decimal, (3, 7, 17, 13)))
    assert stands.projected == Decimal("3.45")


def test_a_share_that_is_used_up_brings_nothing_more() -> None:
    stands = after(495, [machine(reserved="5")])
    assert (stands.spent, stands.projected, stands.worst) == (Decimal("4.95"), Decimal(5), Decimal(5))


def test_a_machine_that_outlives_its_share_costs_what_it_costs() -> None:
    assert after(600, [machine(reserved="5")]).worst == 6


def test_without_a_share_the_deadline_says_what_a_machine_may_cost() -> None:
    deadline = (NOON + timedelta(seconds=700)).isoformat()
    assert after(100, [machine(notes={"deadline": deadline})]).worst == 7


def test_what_is_booked_of_a_live_machine_is_not_counted_twice() -> None:
    last = (NOON + timedelta(seconds=100)).isoformat()
    assert after(150, [machine(notes={"estimated_at": last})], booked="1").spent == Decimal("1.5")


def test_a_machine_that_is_gone_and_not_booked_yet_counts_until_it_was_gone() -> None:
    last = (NOON + timedelta(seconds=100)).isoformat()
    gone = machine(notes={"estimated_at": last}, gone_at=NOON + timedelta(seconds=150), reserved="9")
    stands = after(300, [gone], booked="1")
    assert (stands.spent, stands.worst) == (Decimal("1.5"), Decimal("1.5"))


def test_a_charge_belongs_to_the_month_in_which_it_starts() -> None:
    """What accrued over midnight is booked in one line, in the old month; what comes after that in the new one."""
    december = datetime(2026, 12, 1, tzinfo=UTC)
    over = machine(since=december - timedelta(seconds=60), reserved="5")
    assert at(december + timedelta(seconds=40), [over]).spent == 0
    assert at(december + timedelta(seconds=40), [over]).worst == 4, "it may still cost that"
    booked_at = (december + timedelta(seconds=40)).isoformat()
    later = machine(since=december - timedelta(seconds=60), notes={"estimated_at": booked_at})
    assert at(december + timedelta(seconds=50), [later]).spent == Decimal("0.1")


def test_months_are_utc() -> None:
    late_in_new_york = datetime.fromisoformat("2026-10-31T22:00:00-04:00")
    assert month_of(late_in_new_york) == "2026-11"
    assert month_starts(late_in_new_york) == datetime(2026, 11, 1, tzinfo=UTC)


def test_soft_and_hard() -> None:
    assert not after(0, [], booked="14.99").is_soft_reached and after(0, [], booked="15").is_soft_reached
    assert not after(0, [], booked="20").would_be_passed and after(0, [machine()], booked="20.01").would_be_passed


@pytest.mark.parametrize(
    ("free", "need", "waiting", "expected"),
    [
        ("100", "10", [], "10"),  # as much as it needs
        ("6", "10", [], "6"),  # or what there is
        ("40", "100", ["100"] * 3, "10"),  # everybody alike
        ("40", "100", ["2", "3", "100"], "17.5"),  # who needs less leaves the rest
        ("40", "3", ["100"] * 3, "3"),
        ("4", "100", ["100"] * 9, "2"),  # an hour, while there is so much
        ("1.5", "100", ["100"] * 9, "1.5"),
        ("0.04", "100", [], "0"),  # of no use
        ("-3", "100", ["100"], "0"),
        ("0.04", "0.03", [], "0"),
    ],
)
def test_how_what_is_free_is_divided(free: str, need: str, waiting: list[str], expected: str) -> None:
    specs = [{"limits": {"max_cost": usd}} for usd in waiting]
    least = Decimal("0.05")
    part = share(Decimal(free), need=Decimal(need), usd_per_hour=Decimal(2), least=least, waiting=specs)
    assert part == Decimal(expected)
