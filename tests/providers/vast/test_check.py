"""What a check of the account says: the key, the credit, and nothing of what other people do. The wire is a script."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import requests

from providers.base import Check
from tests.fakes.clock import START, FakeClock
from tests.providers.vast.wire import LIST, ME, Wire, instance, listed, provider
from tests.providers.wire import Reply

TOO_EARLY = Reply(429, text="API requests too frequent")


def test_a_check_tells_the_credit_and_nobodys_address() -> None:
    wire = Wire().on(LIST, listed(instance())).on(ME, {"credit": 12.5, "email": "alice@example.org", "balance": 0})
    found = provider(wire).check()
    assert found.usable and "1 instance " in found.notes[0] and "$12.50" in found.notes[1]
    assert "alice@example.org" not in str(found)


@pytest.mark.parametrize(
    ("credit", "usable", "words"),
    [(0, False, "billing"), (-3.2, False, "billing"), (0.4, True, "stops"), (None, True, "not known")],
)
def test_a_check_says_when_there_is_too_little_money(credit: float | None, usable: bool, words: str) -> None:
    found = provider(Wire().on(LIST, listed()).on(ME, {"credit": credit})).check()
    assert found.usable is usable and words in " ".join((*found.problems, *found.notes))


def test_a_key_that_may_not_see_the_credit_can_rent() -> None:
    denied = Reply(403, {"success": False, "error": "forbidden", "msg": "not permitted"})
    found = provider(Wire().on(LIST, listed()).on(ME, denied)).check()
    assert found.usable and "user_read" in found.notes[1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Reply(401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}), "VAST_API_KEY"),
        (Reply(403, {"success": False, "error": "forbidden", "msg": "not permitted"}), "permission"),
        (requests.ConnectTimeout("slow"), "not reached"),
        (Reply(502, text="<html>502</html>"), "502"),
    ],
    ids=repr,
)
def test_a_check_says_why_nothing_can_be_rented(answer: object, words: str) -> None:
    found = provider(Wire().on(LIST, answer)).check()
    assert not found.usable and words in found.problems[0]


@pytest.mark.parametrize("call", [LIST, ME])
def test_a_check_that_comes_too_early_asks_once_more(call: str) -> None:
    """Another process of the same key has just asked."""
    clock, answers = FakeClock(), {LIST: listed(instance()), ME: {"credit": 12.5}}
    wire = Wire().on(LIST, answers[LIST]).on(ME, answers[ME]).on(call, TOO_EARLY, answers[call])
    found = provider(wire, clock).check()
    assert found == Check(notes=("1 instance in the account", "$12.50 of credit"))
    assert len(wire.calls(call)) == 2 and clock() - START <= timedelta(seconds=5.5)


@pytest.mark.parametrize(("call", "words"), [(LIST, "not looked at"), (ME, "credit is not known")])
def test_a_check_that_never_gets_its_turn_says_so_and_condemns_nothing(call: str, words: str) -> None:
    clock, wire = FakeClock(), Wire().on(LIST, listed()).on(ME, {"credit": 12.5})
    found = provider(wire.on(call, TOO_EARLY), clock).check()
    assert found.usable and words in found.notes[-1] and "too frequent" in found.notes[-1]
    assert len(wire.calls(call)) == 2 and clock() - START <= timedelta(seconds=5.5)


def test_a_check_does_not_wait_for_long() -> None:
    clock, wire = FakeClock(), Wire().on(LIST, Reply(429, text="no", headers={"Retry-After": "600"}))
    found = provider(wire, clock).check()
    assert found.usable and found.notes and clock() - START == timedelta(seconds=5)


def test_a_check_without_a_key_asks_nobody(tmp_path: Path) -> None:
    wire = Wire()
    found = provider(wire, key="", home=tmp_path).check()
    assert "VAST_API_KEY" in found.problems[0] and not wire.asked
