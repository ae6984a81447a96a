"""What was just made is looked at again soon, and less often the older it gets; a slow list is not pressed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from providers.snapshot import Snapshot
from tests.fakes.clock import FakeClock

Json = dict[str, Any]


class Account:
    """A cloud that counts how often it was asked for its list, which takes it `seconds`."""

    def __init__(self, clock: FakeClock, seconds: float = 0.0) -> None:
        self.clock, self.seconds, self.lists = clock, seconds, 0

    def machines(self) -> list[Json]:
        self.lists += 1
        self.clock.advance(self.seconds)
        return [{"id": "m"}]


class Machines(Snapshot[Account]):
    def _list(self, source: Account) -> list[Json]:
        return source.machines()

    def _one(self, source: Account, machine_id: str) -> Json:
        raise AssertionError(f"{source} lists {machine_id}")


def lists_in(seconds: float, *, made: bool, each: float = 0.0) -> int:
    """How often a cloud is asked when somebody looks at a machine five times a second."""
    clock = FakeClock()
    account, machines, start = Account(clock, each), Machines(clock, timedelta(seconds=3)), clock()
    if made:
        machines.put({"id": "m"})
    while (clock() - start).total_seconds() < seconds:
        machines.get(account, "m")
        clock.advance(0.2)
    return account.lists


def test_a_boot_of_a_second_is_seen_within_one() -> None:
    assert lists_in(0.9, made=True) == 1


@pytest.mark.parametrize(("seconds", "most"), [(60, 35), (600, 215)])
def test_a_long_boot_costs_little_more_than_an_old_machine(seconds: float, most: int) -> None:
    assert lists_in(seconds, made=False) < lists_in(seconds, made=True) <= most


def test_a_list_that_takes_long_is_not_asked_for_all_the_time() -> None:
    assert lists_in(30, made=True, each=1.0) <= lists_in(30, made=False, each=1.0) + 3
