"""Faults are data: read, checked, and used up in order."""

from __future__ import annotations

from typing import Any

import pytest

from providers.rehearsal.faults import Fault, Faults


def test_a_fault_strikes_after_skip_and_as_often_as_times() -> None:
    faults = Faults([Fault(kind="error", on="create", skip=2, times=2)])
    struck = [faults.take("create", "error") is not None for _ in range(6)]
    assert struck == [False, False, True, True, False, False]
    assert len(faults.struck) == 2 and faults.waiting() == []


def test_other_calls_and_other_kinds_use_nothing_up() -> None:
    faults = Faults([Fault(kind="error", on="create")])
    assert faults.take("list", "error") is None
    assert faults.take("create", "throttled", "slow") is None
    assert faults.take("create", "throttled", "error") is not None


def test_a_fault_without_a_call_strikes_any() -> None:
    faults = Faults([Fault(kind="outage", seconds=5)])
    found = faults.take("charges", "outage")
    assert found is not None and found.seconds == 5


def test_the_first_that_fits_strikes_first() -> None:
    faults = Faults()
    faults.add(Fault(kind="slow", seconds=1), Fault(kind="slow", seconds=2))
    assert [fault.seconds for fault in (faults.take("get", "slow"), faults.take("get", "slow")) if fault] == [1, 2]
    faults.add(Fault(kind="slow"))
    faults.clear()
    assert faults.take("get", "slow") is None


def test_a_call_goes_by_for_every_fault_whichever_strikes_it() -> None:
    faults = Faults([Fault(kind="error", times=2), Fault(kind="throttled", skip=3)])
    kinds = [fault and fault.kind for fault in (faults.take("get", "error", "throttled") for _ in range(5))]
    assert kinds == ["error", "error", None, "throttled", None]


def test_a_call_that_cannot_be_spoiled_goes_by_and_uses_nothing_up() -> None:
    faults = Faults([Fault(kind="lost_reply", on="create", skip=1)])
    faults.spare("create", "lost_reply")
    faults.spare("create", "lost_reply")
    assert [fault.skip for fault in faults.waiting()] == [0] and faults.struck == []
    assert faults.take("create", "lost_reply") is not None


def test_json_there_and_back() -> None:
    fault = Fault(kind="preempt", seconds=30, notice=120)
    assert Fault.from_json(fault.to_json()) == fault
    assert Fault.from_json({"kind": "error", "status": 503}).times == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "rain"}, "no fault 'rain'; there are outage"),
        ({"kind": "error", "on": "deletes"}, "no call 'deletes'; there are offers"),
        ({"kind": "error", "after": 3}, "no 'after'; it has kind"),
        ({"on": "create"}, "needs a kind"),
        ({"kind": "slow", "seconds": "3"}, "seconds is a number"),
        ({"kind": "slow", "seconds": float("inf")}, "seconds is a number"),
        ({"kind": "slow", "times": 0}, "times is a whole number of at least 1"),
        ({"kind": "slow", "times": 1.5}, "times is a whole number"),
        ({"kind": "slow", "skip": None}, "skip is a whole number"),
        ({"kind": "error", "status": 200}, "status is from 400 to 599"),
        ({"kind": "no_capacity", "on": "terminate"}, "no_capacity strikes create, never terminate"),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_ones(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault.from_json(row)
