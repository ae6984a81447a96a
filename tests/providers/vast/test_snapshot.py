"""One list for everybody, and no machine gone for want of it in a list."""

from __future__ import annotations

from typing import Any

import pytest

from providers.errors import NotFound, Throttled, Unreachable
from providers.vast.snapshot import Instances
from tests.fakes.clock import FakeClock
from tests.providers.vast.wire import instance

Json = dict[str, Any]


class Source:
    """A cloud with these instances; `errors` come first."""

    def __init__(self, clock: FakeClock, *numbers: int, seconds: float = 0) -> None:
        self.clock, self.seconds = clock, seconds
        self.listed = {number: instance(number) for number in numbers}
        self.there = dict(self.listed)
        self.asked: list[str] = []
        self.errors: dict[str, list[Exception]] = {}

    def instances(self, filters: Json | None = None) -> list[Json]:
        assert not filters
        self._ask("list")
        self.clock.advance(self.seconds)
        return list(self.listed.values())

    def instance(self, instance_id: str, *, patience: float | None = None) -> Json:
        del patience
        self._ask(instance_id)
        if int(instance_id) not in self.there:
            raise NotFound("null")
        return self.there[int(instance_id)]

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if left := self.errors.get(what):
            raise left.pop(0)


def test_many_who_ask_within_two_seconds_cost_one_request() -> None:
    clock = FakeClock()
    source, seen = Source(clock, 101, 102, 103), Instances(clock)
    for number in (101, 102, 103):
        assert seen.get(source, str(number))["id"] == number
        clock.advance(0.5)
    assert source.asked == ["list"]
    clock.advance(2)
    seen.get(source, "101")
    assert source.asked == ["list", "list"]


def test_a_machine_that_a_list_lacks_is_asked_for_by_itself() -> None:
    clock = FakeClock()
    source, seen = Source(clock, 101), Instances(clock)
    source.there[102] = instance(102)
    assert seen.get(source, "102")["id"] == 102
    assert source.asked == ["list", "102"]
    with pytest.raises(NotFound):
        seen.get(source, "103")
    assert source.asked[-1] == "103"


def test_a_list_that_takes_long_is_fresh_for_longer() -> None:
    """A hundred machines are four pages, a second apart: they would never be fresh."""
    clock = FakeClock()
    source, seen = Source(clock, 101, seconds=4), Instances(clock)
    for _ in range(3):
        seen.get(source, "101")
        clock.advance(1)
    assert source.asked == ["list"]


def test_what_is_being_ended_is_asked_for_by_itself() -> None:
    """A list may still show it."""
    clock = FakeClock()
    source, seen = Source(clock, 101), Instances(clock)
    seen.get(source, "101")
    seen.expire("101", ending=True)
    del source.there[101]
    with pytest.raises(NotFound):
        seen.get(source, "101")
    assert source.asked == ["list", "101"] and seen.is_ending("101")


def test_while_its_own_turn_has_not_come_a_list_that_shows_it_will_do() -> None:
    clock = FakeClock()
    source, seen = Source(clock, 101), Instances(clock)
    seen.expire("101", ending=True)
    source.errors["101"] = [Throttled("later", after=2), Throttled("later", after=2)]
    assert seen.get(source, "101")["id"] == 101
    source.listed.clear()
    clock.advance(3)
    with pytest.raises(Throttled):
        seen.get(source, "101")


def test_who_is_throttled_gets_the_last_state_for_a_while() -> None:
    clock = FakeClock()
    source, seen = Source(clock, 101), Instances(clock)
    seen.get(source, "101")
    source.errors["list"] = [Throttled("later", after=2) for _ in range(2)]
    clock.advance(10)
    assert seen.get(source, "101")["id"] == 101
    clock.advance(30)
    with pytest.raises(Throttled):
        seen.get(source, "101")


def test_an_outage_is_an_outage() -> None:
    clock = FakeClock()
    source, seen = Source(clock, 101), Instances(clock)
    seen.get(source, "101")
    clock.advance(5)
    source.errors["list"] = [Unreachable("down")]
    with pytest.raises(Unreachable):
        seen.get(source, "101")


def test_what_was_just_made_is_known_before_a_list_shows_it() -> None:
    clock = FakeClock()
    source, seen = Source(clock), Instances(clock)
    seen.put(instance(101))
    assert seen.get(source, "101")["id"] == 101 and source.asked == []
