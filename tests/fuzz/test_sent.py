"""Values as they are sent: whatever it is, a value that makes sense or none, never an exception and never long."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given

from providers import gpus, sent
from tests.fuzz.nonsense import examples, junk


@given(junk)
@example("²")
@example("9" * 5000)
@example(10**4000)
@example(float("nan"))
@example(Decimal("1e999999"))
@example(Decimal("sNaN"))
@example("1e-999999")
@examples(500)
def test_a_value_makes_sense_or_is_none(value: Any) -> None:
    for number in (sent.amount(value), sent.price(value)):
        assert number is None or (number.is_finite() and len(f"{number:f}") < 40 and number + 1 >= number)
    price, size, moment = sent.price(value), sent.number(value), sent.moment(value)
    assert price is None or price >= 0
    assert size is None or 0 <= size <= 1e15
    assert 0 <= sent.whole(value) < 10**18 and 0 <= sent.port(value) < 65536
    assert moment is None or moment.tzinfo is UTC
    assert sent.iso(value) is None or isinstance(sent.iso(value), datetime)
    assert len(sent.words(value)) <= sent.LONGEST_WORDS and "\n" not in sent.words(value)
    assert not sent.address(value).startswith("-") and " " not in sent.address(value)


@pytest.mark.parametrize(
    ("value", "amount"),
    [(0.69, "0.69"), ("0.0800", "0.0800"), (2, "2"), (-1.5, "-1.5"), (Decimal("0.1"), "0.1"), (1e-15, "0E-12")],
)
def test_sensible_amounts_stay_as_they_are(value: Any, amount: str) -> None:
    assert str(sent.amount(value)) == amount


def test_sensible_values() -> None:
    assert (sent.whole("41022"), sent.whole(7), sent.whole(3.0), sent.whole(True), sent.whole("1.5")) == (
        41022,
        7,
        3,
        0,
        0,
    )
    assert sent.moment("1795262400") == datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    assert sent.address(" 203.0.113.7 \n") == "203.0.113.7" and sent.address("ssh4.vast.ai") == "ssh4.vast.ai"
    assert sent.address("2001:db8::1") == "2001:db8::1" and sent.address("::1") == "::1"


@given(junk.filter(lambda value: isinstance(value, str)))
@example("nvidia" * 200_000)
@example("ㅤ" * 1000)
@examples(300)
def test_any_name_of_a_gpu_is_one_that_is_known_or_none(name: str) -> None:
    known = gpus.canonical(name)
    assert known is None or known in gpus.names()
    assert set(gpus.ambiguous(name)) <= set(gpus.names())
    assert gpus.is_same(name, name)
