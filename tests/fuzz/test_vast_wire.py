"""Vast.ai as a whole, over a scripted wire that answers nonsense: a machine is shown or an error is raised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.base import OfferQuery
from providers.errors import ProviderError
from tests.fuzz import sense
from tests.fuzz.nonsense import DEEP, examples, junk, mutated, replies, statuses
from tests.providers.vast import wire
from tests.providers.wire import Reply, request

Json = dict[str, Any]

ASK = wire.ask()
ROW = wire.instance(**wire.RUNNING)
GOOD = wire.instance(102, "gpujob-r-good-1-1")


@given(st.lists(mutated(ASK), max_size=3))
@examples(150)
def test_one_bad_row_hides_no_good_offer(rows: list[Json]) -> None:
    rows = [row for row in rows if isinstance(row, dict)]
    made = wire.Wire().on(wire.SEARCH, Reply(body={"success": True, "offers": [*rows, wire.ask(9)]}))
    found = wire.provider(made).offers(OfferQuery(gpus=("RTX4090",), gpu_count=1, spot=False))
    for one in found:
        sense.offer(one)
    assert "9" in {one.offer_id for one in found}


@given(replies({"success": True, "instances": [ROW, GOOD], "next_token": None}), statuses)
@example(DEEP, 200)
@examples(300)
def test_a_list_has_every_machine_or_is_an_error(text: str, status: int) -> None:
    looking = wire.provider(wire.Wire().on(wire.LIST, Reply(status, text=text)))
    for look in (lambda: looking.list("alice"), lambda: [looking.find("gpujob-r-abc123-1-1", wire.offer())]):
        try:
            found = look()
        except ProviderError as error:
            sense.error(error)
            continue
        for machine in found:
            if machine is not None:
                sense.instance(machine)


@pytest.mark.parametrize("bad", [{**ROW, "start_date": 1e300}, {**ROW, "ports": 7}, {**ROW, "disk_space": "NaN"}])
def test_a_machine_that_is_badly_described_is_listed_all_the_same(bad: Json) -> None:
    looking = wire.provider(wire.Wire().on(wire.LIST, wire.listed(bad, GOOD)))
    assert [machine.id for machine in looking.list("alice")] == ["101", "102"]


@given(replies({"instances": ROW}), statuses)
@example('{"instances": ' + DEEP, 200)
@examples(300)
def test_one_machine_is_shown_or_is_an_error(text: str, status: int) -> None:
    looking = wire.provider(wire.Wire().on(wire.LIST, wire.listed()).on(wire.SHOW, Reply(status, text=text)))
    try:
        sense.instance(looking.get("101"))
    except ProviderError as error:
        sense.error(error)


@given(replies(wire.MADE), statuses, junk)
@examples(200)
def test_a_create_is_a_machine_or_an_error(text: str, status: int, shown: Any) -> None:
    made = wire.Wire().on(wire.LIST, wire.listed()).on(wire.ATTACH, wire.YES).on(wire.DESTROY, wire.YES)
    made.on(wire.CREATE, Reply(status, text=text)).on(wire.SHOW, {"instances": shown})
    try:
        sense.instance(wire.provider(made).create(wire.offer(), request()))
    except ProviderError as error:
        sense.error(error)
