"""Monthly budgets: what the simulated cloud bills never passes them, whoever watches, and people are told in time."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from orchestrator import budgets
from orchestrator.budgets import month_starts
from orchestrator.records import Outcome, Phase
from orchestrator.store.accounts import month_of
from orchestrator.store.rows import BudgetRow
from providers.base import Offer
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import offer
from tests.orchestrator.living import Living

ENDLESS = Script(seconds=math.inf, files=[(1, "outputs/model.bin", b"weights")])
PLENTY: dict[str, Any] = {"limits": {"max_cost": "1000", "max_duration": "100h"}}


def at(usd_per_hour: str) -> list[Offer]:
    return [offer("one", usd_per_hour=usd_per_hour)]


@pytest.fixture
def living(tmp_path: Path) -> Living:
    """A cloud at a cent a second."""
    return Living(tmp_path, offers=at("36"), script=ENDLESS)


def budget(living: Living, monthly: str, *, soft: str | None = None, project: str = "") -> BudgetRow:
    row = BudgetRow(
        project=project,
        monthly_usd=Decimal(monthly),
        soft_usd=None if soft is None else Decimal(soft),
        set_at=living.clock(),
    )
    living.store.accounts.set_budget(row, month_starts(living.clock()))
    return row


def booked(living: Living) -> Decimal:
    return sum((row.amount_usd for row in living.store.charges()), Decimal(0))


def deadlines_cost(living: Living) -> Decimal:
    """What the cloud would bill if nobody looked any more and every machine ended itself at its deadline."""
    return sum(
        (
            Decimal(str((machine.request.deadline - machine.created_at).total_seconds())) / 100
            for machine in living.cloud._machines.values()
        ),
        Decimal(0),
    )


def test_a_run_is_stopped_before_the_month_is_used_up_and_its_files_come_home(living: Living) -> None:
    budget(living, "3.00")
    living.submit(artifacts=["outputs/**"], **PLENTY)
    run = living.until_done()
    assert run.outcome is Outcome.STOPPED_BY_BUDGET
    assert "the budget of all runs for 2026-11 ($3.00) would have been passed" in str(run.error)
    assert run.artifacts_complete and (living.home.run(run.id).artifacts / "outputs/model.bin").read_bytes()
    assert Decimal("2.50") < living.cloud.billed() <= Decimal("3.00")
    assert any("the job is asked to stop: this machine's $3.00 of the budget" in text for text in living.words())


def test_the_machine_itself_ends_in_time_when_the_controller_is_dead(living: Living) -> None:
    budget(living, "3.00")
    living.submit(**PLENTY)
    living.until(Phase.WATCH)
    assert Decimal("2.5") < deadlines_cost(living) <= Decimal("3.00")
    assert living.machines["gpujob-r-1-1-1"].job["deadline_seconds"] <= 300
    living.until_done()


def test_many_runs_at_once_share_what_there_is(living: Living) -> None:
    """An hour of such a machine is more than all of the budget: then the first have it."""
    living.cloud.rentable = [offer("one", usd_per_hour="3.6")]
    budget(living, "40.00")
    for number in range(8):
        living.submit(f"r-{number}", **PLENTY)
    living.seconds(10)
    made = living.cloud._machines.values()
    lasts = [(machine.request.deadline - machine.created_at).total_seconds() for machine in made]
    assert len(lasts) == 8 and sum(lasts) / 1000 <= 40
    assert max(lasts) - min(lasts) < 60, "everybody gets the same"
    for number in range(8):
        living.store.request_cancel(f"r-{number}")
    living.seconds(60)


def test_what_short_runs_leave_over_is_for_the_long_ones(living: Living) -> None:
    budget(living, "300.00")
    living.submit("r-long", **PLENTY)
    for number in range(3):
        living.submit(f"r-{number}", limits={"max_cost": "2", "max_duration": "100h"})
    living.seconds(10)
    shares = {name: machine.request.deadline - machine.created_at for name, machine in living.cloud._machines.items()}
    assert shares["gpujob-r-long-1-1"].total_seconds() / 100 == pytest.approx(294, abs=1)
    for run_id in ("r-long", "r-0", "r-1", "r-2"):
        living.store.request_cancel(run_id)
    living.seconds(60)


def test_a_run_waits_while_others_hold_what_is_left_and_goes_on_when_they_give_it_back(living: Living) -> None:
    living.machines._script = Script(seconds=100)
    budget(living, "10.00")
    living.submit("r-1", **PLENTY)
    living.seconds(5)
    living.submit("r-2", **PLENTY)
    living.seconds(60)
    assert living.run("r-2").phase is Phase.QUOTE and living.cloud.alive() == ("gpujob-r-1-1-1",)
    [waits] = [text for text in living.words("r-2") if text.startswith("waits: ")]
    assert waits.endswith("of the budget of all runs for 2026-11 ($10.00) is set aside for 1 live machine")
    assert living.until_done("r-1").outcome is Outcome.SUCCEEDED
    assert living.until_done("r-2").outcome is Outcome.SUCCEEDED
    assert living.cloud.billed() <= 10


def test_nothing_is_rented_when_the_month_is_used_up(living: Living) -> None:
    budget(living, "3.00")
    living.submit("r-1", **PLENTY)
    living.until_done("r-1")
    living.submit("r-2", **PLENTY)
    run = living.until_done("r-2")
    assert run.outcome is Outcome.STOPPED_BY_BUDGET and living.attempts("r-2") == []
    assert "is left of the budget of all runs for 2026-11 ($3.00): too little" in str(run.error)


def test_a_new_month_begins_with_nothing_spent(living: Living) -> None:
    budget(living, "3.00")
    living.submit("r-1", **PLENTY)
    living.until_done("r-1")
    living.clock.advance((datetime(2026, 12, 1, tzinfo=UTC) - living.clock()).total_seconds())
    living.submit("r-2", **PLENTY)
    living.until_done("r-2")
    assert Decimal("5.0") < living.cloud.billed() <= Decimal("6.00")
    months = {month_of(row.start) for row in living.store.charges()}
    assert months == {"2026-11", "2026-12"}


def test_a_budget_of_a_project_is_no_others_business(living: Living) -> None:
    budget(living, "3.00", project="digits")
    living.submit("r-1", project="digits", **PLENTY)
    living.submit("r-2", project="speech", **PLENTY)
    assert "project digits" in str(living.until_done("r-1").error)
    assert living.run("r-2").outcome is None
    living.store.request_cancel("r-2")
    living.until_done("r-2")


def test_the_narrower_of_two_budgets_holds(living: Living) -> None:
    budget(living, "100.00")
    budget(living, "3.00", project="digits")
    living.submit("r-1", project="digits", **PLENTY)
    assert "project digits" in str(living.until_done("r-1").error)
    assert living.cloud.billed() <= 3


def test_a_budget_that_is_lowered_stops_what_runs(living: Living) -> None:
    living.submit("r-1", artifacts=["outputs/**"], **PLENTY)
    living.until(Phase.WATCH)
    living.seconds(100)
    budget(living, "1.00")
    run = living.until_done("r-1", limit=60)
    assert run.outcome is Outcome.STOPPED_BY_BUDGET and "all runs" in str(run.error)


def test_several_runs_that_no_share_was_set_aside_for_stop_in_time(living: Living) -> None:
    for number in range(3):
        living.submit(f"r-{number}", **PLENTY)
    living.seconds(30)
    budget(living, "6.00")
    living.seconds(400)
    assert {living.run(f"r-{number}").outcome for number in range(3)} == {Outcome.STOPPED_BY_BUDGET}
    assert Decimal("4.00") < living.cloud.billed() <= 6


def test_a_free_machine_is_no_matter_of_a_budget(living: Living) -> None:
    budget(living, "3.00")
    living.submit("r-1", **PLENTY)
    living.until_done("r-1")
    living.cloud.rentable = [offer("free", usd_per_hour="0")]
    living.machines._script = Script(seconds=30)
    living.submit("r-2", **PLENTY)
    assert living.until_done("r-2").outcome is Outcome.SUCCEEDED


def test_a_soft_limit_warns_each_run_once_and_stops_none(living: Living) -> None:
    living.machines._script = Script(seconds=200)
    budget(living, "100.00", soft="1.00")
    for run_id in ("r-1", "r-2"):
        living.submit(run_id, **PLENTY)
    living.seconds(300)
    for run_id in ("r-1", "r-2"):
        warnings = [event.text for event in living.events(run_id) if event.kind == "warning"]
        assert len(warnings) == 1 and "its soft limit is $1.00" in warnings[0]
        assert living.run(run_id).outcome is Outcome.SUCCEEDED


def test_disk_and_address_count_for_the_deadline_too(living: Living) -> None:
    living.cloud.rentable = [offer("one", usd_per_hour="18", other_usd_per_hour=Decimal(18))]
    budget(living, "3.00")
    living.submit(**PLENTY)
    living.until(Phase.WATCH)
    [machine] = living.cloud._machines.values()
    assert (machine.request.deadline - machine.created_at).total_seconds() <= 300
    living.store.request_cancel("r-1")
    living.until_done()


@pytest.mark.parametrize("moment", range(0, 280, 20))
def test_at_no_moment_could_all_machines_together_pass_the_budget(living: Living, moment: int) -> None:
    """The controller dies at any moment: booked, and every live machine to its deadline, stays within."""
    living.cloud.rentable = [offer("one", usd_per_hour="36")]
    living.machines._script = lambda name: Script(seconds=20 + crc32(name.encode()) % 7 * 11)
    budget(living, "20.00")
    for number in range(6):
        living.submit(f"r-{number}", limits={"max_cost": f"{2 + number * 2}", "max_duration": "10h"})
    living.seconds(moment)
    [account] = budgets.accounts(living.store, living.clock())
    over = [name for name in living.cloud.made() if name not in living.cloud.alive()]
    gone = sum((living.cloud.billed(name) for name in over), Decimal(0))
    alive = [living.cloud._machines[name] for name in living.cloud.alive()]
    to_the_end = sum(
        (Decimal(str((one.request.deadline - one.created_at).total_seconds())) / 100 for one in alive), Decimal(0)
    )
    assert gone + to_the_end <= Decimal("20.00")
    assert account.worst <= Decimal("20.05")
    assert account.spent == pytest.approx(living.cloud.billed(), abs=Decimal("0.2"))


def test_what_is_booked_and_what_the_budget_says_is_the_same(living: Living) -> None:
    living.machines._script = Script(seconds=9000)
    budget(living, "1000.00")
    living.submit(**PLENTY)
    living.seconds(8000, step=10)
    [account] = budgets.accounts(living.store, living.clock())
    assert account.spent == pytest.approx(living.cloud.billed(), abs=Decimal("0.2"))
    living.until_done()
    [account] = budgets.accounts(living.store, living.clock())
    assert account.spent == booked(living) and account.worst == account.spent
