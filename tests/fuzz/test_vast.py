"""Vast.ai's rows, bills and refusals, mutated: a value of ours or an error of ours."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from providers.base import OfferQuery
from providers.errors import ProviderError, Throttled
from providers.transport import Answer
from providers.vast import mapping, offers, standing
from providers.vast.pace import CREATE, LIST, SEARCH, SHOW
from providers.vast.refusals import translate
from tests.fakes.clock import START
from tests.fuzz import sense
from tests.fuzz.nonsense import DEEP, examples, headers, mutated, replies, rows, statuses
from tests.providers.vast import wire

Json = dict[str, Any]

ASK = wire.ask()
ROW = wire.instance(**wire.RUNNING)
BILL: Json = {
    "source": "instance-101",
    "items": [
        {"type": "gpu", "start": START.timestamp(), "end": START.timestamp() + 3600, "amount": 0.34,
         "description": "1.0 hours at $0.34/hour"},
        {"type": "disk", "start": START.timestamp(), "end": START.timestamp() + 3600, "amount": 0.004,
         "description": "20.0 GB at $0.15/GB-month"},
    ],
}  # fmt: skip
REFUSALS: tuple[Json, ...] = (
    {"success": False, "error": "insufficient_credit", "msg": "no credit"},
    {"success": False, "error": "no_such_ask", "msg": "ask 7 is not available"},
    {"success": False, "error": "invalid_price", "msg": "too low", "new_contract": 101},
    {"detail": "API requests too frequent: endpoint threshold=2.0"},
    {"success": False, "error": "search_quota_exceeded", "retry_after": 30},
)


@given(rows(ASK), st.booleans())
@example({**ASK, "dph_base": 1e300}, False)
@example({**ASK, "dph_base": -0.5}, False)
@example({**ASK, "min_bid": "NaN"}, True)
@example({**ASK, "num_gpus": 1e300}, False)
@example({**ASK, "gpu_ram": 1e300, "gpu_name": "X"}, False)
@example({**ASK, "ask_contract_id": "9" * 5000}, False)
@example({**ASK, "ask_contract_id": "٣"}, False)
@example({**ASK, "storage_cost": -0.1}, False)
@example({**ASK, "gpu_name": "nvidia" * 100_000}, False)
@examples(400)
def test_a_row_of_the_market_is_an_offer_or_none(row: Json, bid: bool) -> None:
    found = offers.offer(row, bid=bid, at=START)
    offers.is_wanted(row, OfferQuery(gpu_count=1), START)
    if found is not None:
        sense.offer(found)
        offers.Ask.of(found.offer_id)


@given(rows(ROW))
@example({**ROW, "start_date": 1e300})
@example({**ROW, "end_date": float("nan"), "cur_state": "stopped"})
@example({**ROW, "extra_env": [["GPUJOB_DEADLINE", "9" * 30], ["GPUJOB_ATTEMPT", "²"]]})
@example({**ROW, "ports": {"22/tcp": 5}})
@example({**ROW, "public_ipaddr": "-oProxyCommand=x"})
@example({**ROW, "dph_base": -1})
@example({**ROW, "id": None})
@example({**ROW, "status_msg": "A" * 20_000})
@examples(400)
def test_an_instance_is_shown_or_said_to_be_unreadable(row: Json) -> None:
    try:
        owner = mapping.owner_of(row)
        found = mapping.instance(row, standing.standing(row, START), now=START, progress="")
    except ProviderError as error:
        return sense.error(error)
    sense.instance(found)
    assert found.owner == owner
    return None


@given(mutated([BILL]))
@example([{**BILL, "items": 7}])
@example([{**BILL, "items": [None]}])
@example([{**BILL, "items": [{**BILL["items"][0], "amount": "NaN"}]}])
@example([{**BILL, "items": [{**BILL["items"][0], "end": 1e300}]}])
@examples(300)
def test_a_bill_is_one_or_is_said_to_be_unreadable(rows: Any) -> None:
    machine = mapping.instance(ROW, standing.standing(ROW, START), now=START, progress="")
    mine = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    try:
        for charge in mapping.charges(mine, machine, since=START, gone=True, now=START):
            sense.charge(charge)
    except ProviderError as error:
        sense.error(error)


@given(statuses, st.sampled_from(REFUSALS).flatmap(replies), headers, st.sampled_from((CREATE, LIST, SEARCH, SHOW)))
@example(403, "<" * 200_000, {}, LIST)
@example(429, "threshold=" + "9" * 500, {}, LIST)
@example(429, json.dumps({"retry_after": 10**400}), {}, LIST)
@example(200, DEEP, {}, CREATE)
@example(400, json.dumps({"new_contract": {"a": 1}, "success": False}), {}, CREATE)
@example(500, "x" * 490 + "key-key-key-key", {}, SHOW)
@examples(500)
def test_every_refusal_is_an_error_of_ours(status: int, text: str, said: Json, call: str) -> None:
    error = translate(Answer(status, text, said), call=call, now=START, secrets=("key-key-key-key",))
    assert isinstance(error, ProviderError)
    sense.error(error)
    assert "key-key" not in str(error)
    if isinstance(error, Throttled):
        assert 0 < error.after <= 25 * 3600
