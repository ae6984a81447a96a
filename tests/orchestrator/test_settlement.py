"""What a cloud billed is asked for until it is final; the difference is booked once, and told when it is not small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.records import ChargeKind, ChargeRow, Outcome
from orchestrator.settlement import GIVEN_UP_AFTER, Bookkeeper
from providers.base import Charge, Instance
from providers.errors import Unreachable
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import Boot, MemoryProvider, offer
from tests.orchestrator.living import Living

HOUR = 3600.0


class LateBill(MemoryProvider):
    """A cloud whose bill is final two hours after a machine's end, and has `more` on it than its rates say."""

    final_after = 2 * HOUR
    more = Decimal(1)
    silent = False

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        if self.silent:
            raise Unreachable("no bill today", provider=self.name)
        found = super().charges(instance, since)
        age = (self._clock() - found[0].end).total_seconds() if found else 0.0
        return [replace(one, usd=one.usd * self.more, final=age >= self.final_after) for one in found]

    @property
    def owed(self) -> Decimal:
        return round(self.billed() * self.more, 10)


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path, script=Script(seconds=600), offers=[offer("one", usd_per_hour="3.60")])
    alive.cloud.__class__ = LateBill
    yield alive
    assert alive.cloud.alive() == ()
    alive.store.close()


def cloud(living: Living) -> LateBill:
    assert isinstance(living.cloud, LateBill)
    return living.cloud


def keep_books(living: Living, *, hours: float) -> None:
    """A controller that looks every ten minutes for so long."""
    for _ in range(int(hours * 6)):
        living.clock.advance(600)
        Bookkeeper(living.controller.world).settle_due()


def booked(living: Living) -> Decimal:
    return round(living.store.spent(["r-1"])["r-1"], 10)


def settlements(living: Living) -> list[Decimal]:
    return [row.amount_usd for row in living.store.charges() if row.kind is ChargeKind.SETTLEMENT]


def warnings(living: Living) -> list[str]:
    return [event.text for event in living.events() if "were booked" in event.text]


def test_a_bill_that_is_final_hours_later_is_booked_then_and_once(living: Living) -> None:
    cloud(living).more = Decimal("1.10")
    living.submit()
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert settlements(living) == [] and booked(living) < cloud(living).owed
    keep_books(living, hours=1)
    assert settlements(living) == []
    keep_books(living, hours=12)
    assert len(settlements(living)) == 1
    assert booked(living) == cloud(living).owed
    assert living.attempts()[0].settle_at is None
    [warning] = warnings(living)
    assert "memory billed $0.6600" in warning and "$0.6000 were booked" in warning and "compute $0.0600" in warning


def test_a_difference_of_rounding_is_booked_and_not_told(living: Living) -> None:
    cloud(living).more = Decimal("1.0005")
    living.submit()
    living.until_done()
    keep_books(living, hours=4)
    assert booked(living) == cloud(living).owed
    assert warnings(living) == []


def test_a_bill_that_changes_before_it_is_final_is_booked_as_it_is_in_the_end(living: Living) -> None:
    living.submit()
    living.until_done()
    cloud(living).more = Decimal("0.50")
    keep_books(living, hours=1)
    cloud(living).more = Decimal("2")
    keep_books(living, hours=4)
    assert booked(living) == cloud(living).owed


def test_every_attempt_is_settled_also_of_a_run_that_goes_on(living: Living) -> None:
    living.cloud.faults.boots.append(Boot(preempt_after=60))
    cloud(living).more = Decimal("1.5")
    living.submit()
    living.until_done()
    keep_books(living, hours=4)
    assert [attempt.settle_at for attempt in living.attempts()] == [None, None]
    assert booked(living) == cloud(living).owed


def test_a_bug_about_one_bill_does_not_hold_up_the_others(living: Living, caplog: pytest.LogCaptureFixture) -> None:
    for run_id in ("r-1", "r-2"):
        living.submit(run_id)
        living.until_done(run_id)
    store = living.controller.world.store
    really = store.charges

    def charges(*, run_id: str) -> Sequence[ChargeRow]:
        if run_id == "r-1":
            raise KeyError("a bug")
        return really(run_id=run_id)

    store.charges = charges  # type: ignore[method-assign, assignment]
    keep_books(living, hours=12)
    assert "a bug" in caplog.text
    assert [living.attempts(run_id)[0].settle_at is None for run_id in ("r-1", "r-2")] == [False, True]


def test_a_cloud_that_cannot_be_asked_is_asked_again_and_given_up_in_the_end(living: Living) -> None:
    cloud(living).silent = True
    living.submit()
    living.until_done()
    estimate = booked(living)
    keep_books(living, hours=24)
    assert living.attempts()[0].settle_at is not None
    living.clock.advance(GIVEN_UP_AFTER.total_seconds())
    keep_books(living, hours=2)
    assert living.attempts()[0].settle_at is None
    assert booked(living) == estimate and warnings(living) == []


def test_of_two_bookkeepers_one_books(living: Living) -> None:
    cloud(living).more = Decimal("1.10")
    living.submit()
    living.until_done()
    living.clock.advance(3 * HOUR)
    [(run, attempt)] = living.store.due_bills(10)
    both = [Bookkeeper(living.controller.world), Bookkeeper(living.controller.world)]
    for bookkeeper in both:
        bookkeeper._settle(run, attempt)
    assert len(settlements(living)) == 1
    assert booked(living) == cloud(living).owed
