"""Which call is made when, and what follows from its answer. The wire is a script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from providers.base import InstanceStatus, OfferQuery, SshAccess
from providers.errors import Ambiguous, AuthFailed, NotFound, OfferGone, Rejected, Throttled, Unreachable
from tests.fakes.clock import START, FakeClock
from tests.providers.vast.wire import (
    ATTACH,
    CHARGES,
    CREATE,
    DESTROY,
    LIST,
    MADE,
    ME,
    RUNNING,
    SEARCH,
    SHOW,
    STOPPED,
    YES,
    Wire,
    ask,
    creating,
    instance,
    listed,
    offer,
    provider,
)
from tests.providers.wire import Reply, request

ONE = OfferQuery(gpus=("RTX4090",), gpu_count=1)
GONE = Reply(410, {"success": False, "error": "no_such_ask", "msg": "no_such_ask 7 is no longer available."})
NO_INSTANCE = Reply(404, {"success": False, "error": "no_such_instance", "msg": "Instance 101 not found."})
TOO_EARLY = Reply(429, text="API requests too frequent")


# -- offers -----------------------------------------------------------------------------------------------------------


def test_what_the_server_lets_through_is_looked_at_again() -> None:
    rows = [ask(1), ask(2, verification="unverified"), ask(3, cpu_cores_effective=2.0), ask(4, gpu_name="RTX 3090")]
    found = provider(Wire().on(SEARCH, {"offers": rows})).offers(OfferQuery(gpus=("RTX4090",), gpu_count=1, vcpus=8))
    assert [one.offer_id for one in found] == ["1"]


def test_after_sixty_four_rows_the_next_page_begins_at_the_last_price() -> None:
    first = [ask(number, dph_total=number / 100, verification="unverified") for number in range(1, 65)]
    second = [first[-1], ask(65, dph_total=0.64), ask(66, dph_total=0.9)]
    wire = Wire().on(SEARCH, {"offers": first}, {"offers": second})
    assert [one.offer_id for one in provider(wire).offers(ONE)] == ["65", "66"]
    assert len(wire.asked) == 2 and wire.body(SEARCH)["dph_total"] == {"gte": 0.64}


def test_pages_end_when_nothing_new_comes_or_enough_is_there() -> None:
    same = {"offers": [ask(number, verification="unverified") for number in range(1, 65)]}
    wire = Wire().on(SEARCH, same)
    assert provider(wire).offers(ONE) == () and len(wire.asked) == 2
    wire = Wire().on(SEARCH, {"offers": [ask(number) for number in range(1, 65)]})
    assert len(provider(wire).offers(ONE)) == 64 and len(wire.asked) == 1


def test_a_page_that_may_not_be_asked_for_leaves_what_is_there() -> None:
    first = [ask(number, dph_total=number / 100, num_gpus=1 + number % 2) for number in range(1, 65)]
    wire = Wire().on(SEARCH, {"offers": first}, TOO_EARLY)
    assert len(provider(wire).offers(ONE)) == 32


def test_on_demand_and_interruptible_are_two_searches_with_ids_of_their_own() -> None:
    wire = Wire().on(SEARCH, {"offers": [ask()]})
    both = provider(wire).offers(OfferQuery(gpus=("RTX4090",), gpu_count=1, spot=None))
    assert [(one.offer_id, one.spot, one.usd_per_hour) for one in both] == [
        ("7", False, Decimal("0.34")),
        ("bid:7", True, Decimal("0.2")),
    ]
    assert wire.body(SEARCH)["type"] == "bid"


def test_several_quotes_in_a_row_cost_one_search_and_old_prices_are_not_shown() -> None:
    clock = FakeClock()
    wire = Wire().on(SEARCH, {"offers": [ask()]})
    cloud = provider(wire, clock)
    for _ in range(3):
        cloud.offers(ONE)
    assert len(wire.asked) == 1
    clock.advance(16)
    assert cloud.offers(ONE)[0].fetched_at == clock()


def test_when_the_searches_of_a_minute_are_used_the_last_answer_is_served_for_that_minute() -> None:
    clock = FakeClock()
    wire = Wire().on(SEARCH, {"offers": [ask()]}, TOO_EARLY)
    cloud = provider(wire, clock)
    cloud.offers(ONE)
    clock.advance(20)
    assert len(cloud.offers(ONE)) == 1
    clock.advance(50)
    with pytest.raises(Throttled):
        cloud.offers(ONE)


def test_prices_are_shown_without_a_key() -> None:
    wire = Wire().on(SEARCH, {"offers": [ask()]})
    cloud = provider(wire, key="")
    assert len(cloud.offers(ONE)) == 1
    assert "VAST_API_KEY" in str(cloud.unusable())
    with pytest.raises(AuthFailed):
        cloud.create(offer(), request())


# -- create -----------------------------------------------------------------------------------------------------------


def test_a_create_looks_for_its_label_then_rents_then_attaches_its_key() -> None:
    wire = creating(Wire())
    made = provider(wire).create(offer(), request())
    assert wire.calls() == [LIST, CREATE, ATTACH, SHOW]
    assert "label" in str(wire.asked[0].url) and made.name in str(wire.asked[0].url)
    assert wire.body(ATTACH) == {"ssh_key": "ssh-ed25519 AAAApublic"}
    assert (made.id, made.name, made.owner, made.usd_per_hour) == (
        "101",
        "gpujob-r-abc123-1-1",
        "alice",
        Decimal("0.34"),
    )


def test_no_key_is_put_into_the_account() -> None:
    wire = creating(Wire())
    provider(wire).create(offer(), request())
    assert not any(call.endswith("/api/v0/ssh/") for call in wire.calls())


@pytest.mark.parametrize("trouble", [Reply(500), requests.ReadTimeout("slow"), NO_INSTANCE, TOO_EARLY], ids=repr)
def test_a_key_that_cannot_be_attached_is_no_reason_to_lose_a_machine(trouble: object) -> None:
    """The machine starts with it."""
    made = provider(creating(Wire()).on(ATTACH, trouble)).create(offer(), request())
    assert made.id == "101"


def test_a_label_that_is_there_is_not_made_again() -> None:
    wire = Wire().on(LIST, listed(instance(55, label="gpujob-r-abc123-1-1-more"), instance(101)))
    assert provider(wire).create(offer(), request()).id == "101"
    assert wire.calls() == [LIST]


def test_without_an_answer_about_the_label_nothing_is_rented() -> None:
    wire = Wire().on(LIST, Reply(500))
    with pytest.raises(Unreachable):
        provider(wire).create(offer(), request())
    assert wire.calls() == [LIST]


@pytest.mark.parametrize(
    "answer",
    [{"instances": None}, Reply(500), Reply(200, text="{"), requests.ReadTimeout("slow"), {"instances": {"id": 5}}],
    ids=repr,
)
def test_a_machine_that_was_made_and_is_not_described_is_not_lost(answer: object) -> None:
    with pytest.raises(Ambiguous) as caught:
        provider(creating(Wire()).on(SHOW, answer)).create(offer(), request())
    assert caught.value.created_id == "101" and caught.value.provider == "vast"


def test_a_machine_that_does_not_say_yet_whose_it_is_is_ours_all_the_same() -> None:
    row = instance(extra_env=None, label=None, actual_status=None, start_date=None, dph_base=None, status_msg=None)
    made = provider(creating(Wire(), row)).create(offer(), request())
    assert (made.name, made.owner, made.run_id, made.attempt) == ("gpujob-r-abc123-1-1", "alice", "r-abc123", 1)
    assert made.deadline == request().deadline and made.status is InstanceStatus.PENDING


def test_a_bid_that_was_too_low_has_made_a_machine_that_is_named() -> None:
    refused = {"success": False, "error": "invalid_price", "msg": "Please set a bid >= 0.3", "new_contract": 101}
    wire = Wire().on(LIST, listed()).on(CREATE, Reply(400, refused))
    with pytest.raises(Ambiguous) as caught:
        provider(wire).create(offer("bid:7"), request())
    assert caught.value.created_id == "101"


def test_a_machine_that_costs_more_than_was_allowed_is_ended_at_once() -> None:
    wire = creating(Wire(), instance(dph_base=0.9)).on(DESTROY, YES)
    wire.on(SHOW, {"instances": instance(dph_base=0.9)}, {"instances": None})
    with pytest.raises(OfferGone, match=r"0\.9"):
        provider(wire).create(offer(), request(max_usd_per_hour=Decimal("0.5")))
    assert wire.calls(DESTROY) == [DESTROY]


@pytest.mark.parametrize("destroyed", [Reply(500), YES], ids=["refused", "ignored"])
def test_one_that_costs_too_much_and_does_not_end_is_not_forgotten(destroyed: object) -> None:
    wire = creating(Wire(), instance(dph_base=0.9)).on(DESTROY, destroyed)
    with pytest.raises(Ambiguous) as caught:
        provider(wire).create(offer(), request(max_usd_per_hour=Decimal("0.5")))
    assert caught.value.created_id == "101"


def test_an_ask_that_was_tried_is_not_offered_again() -> None:
    """The search lags behind, and each can be rented once."""
    wire = creating(Wire()).on(SEARCH, {"offers": [ask(7), ask(8)]}).on(CREATE, GONE)
    cloud = provider(wire)
    assert len(cloud.offers(ONE)) == 2
    with pytest.raises(OfferGone):
        cloud.create(offer(), request())
    assert [one.offer_id for one in cloud.offers(ONE)] == ["8"]


def test_a_create_that_comes_too_early_is_left_to_the_caller() -> None:
    wire = creating(Wire())
    cloud = provider(wire)
    cloud.create(offer(), request())
    with pytest.raises(Throttled) as caught:
        cloud.create(offer(), request(name="gpujob-r-abc124-1-1"))
    assert 0 < caught.value.after < 5 and len(wire.calls(CREATE)) == 1


def test_a_name_that_was_ended_here_is_not_made_again() -> None:
    wire = creating(Wire()).on(DESTROY, YES)
    cloud = provider(wire, patience=20)
    cloud.terminate(cloud.create(offer(), request()).id)
    wire.on(SHOW, {"instances": None})
    with pytest.raises(Rejected):
        cloud.create(offer(), request())
    assert len(wire.calls(CREATE)) == 1


# -- looking ----------------------------------------------------------------------------------------------------------


def test_a_name_that_a_list_lacks_is_looked_for_by_its_id() -> None:
    wire = creating(Wire())
    cloud = provider(wire)
    cloud.create(offer(), request())
    found = cloud.find("gpujob-r-abc123-1-1", offer())
    assert found is not None and found.id == "101"
    assert cloud.find("gpujob-r-abc123-9-9", offer()) is None


@pytest.mark.parametrize("answer", [Reply(500), Reply(200, text="[]"), {}, requests.ConnectionError("reset")], ids=repr)
def test_a_name_is_never_missing_because_something_did_not_answer(answer: object) -> None:
    with pytest.raises(Unreachable):
        provider(Wire().on(LIST, answer)).find("gpujob-r-abc123-1-1", offer())


def test_a_list_is_of_one_owner() -> None:
    theirs = instance(102, extra_env=[["GPUJOB_OWNER", "bob"]])
    nobodys = instance(103, extra_env=None)
    half_made = instance(104, actual_status=None, start_date=None, status_msg=None)
    wire = Wire().on(LIST, listed(instance(), theirs, next_token="t"), listed(nobodys, half_made))
    assert [one.id for one in provider(wire).list("alice")] == ["101", "104"]


def test_null_is_not_found_and_an_id_that_is_none_is_not_asked_for() -> None:
    wire = Wire().on(LIST, listed()).on(SHOW, {"instances": None})
    with pytest.raises(NotFound):
        provider(wire).get("101")
    before = len(wire.asked)
    for wrong in ("", "../asks/7", "gpujob-r-abc123-1-1"):
        with pytest.raises(NotFound):
            provider(wire).get(wrong)
        provider(wire).terminate(wrong)
    assert len(wire.asked) == before


def test_an_exit_that_is_read_once_is_not_believed() -> None:
    clock = FakeClock()
    up, exited = listed(instance(**RUNNING)), listed(instance(**{**RUNNING, "actual_status": "exited"}))
    wire = Wire().on(LIST, exited, up, exited)
    cloud = provider(wire, clock)

    def look(seconds: float) -> InstanceStatus:
        clock.advance(seconds)
        return cloud.get("101").status

    assert look(0) is InstanceStatus.UNKNOWN
    assert look(3) is InstanceStatus.RUNNING
    assert look(20) is InstanceStatus.UNKNOWN, "the first one does not count any more"
    assert look(11) is InstanceStatus.STOPPED


@pytest.mark.parametrize(
    ("account", "status"),
    [
        ({"credit": 12.5}, InstanceStatus.PREEMPTED),
        ({"credit": -0.01}, InstanceStatus.STOPPED),
        (Reply(500), InstanceStatus.PREEMPTED),
        ({}, InstanceStatus.PREEMPTED),
    ],
)
def test_a_bid_that_was_stopped_was_outbid_unless_the_money_was_used_up(
    account: object, status: InstanceStatus
) -> None:
    row = instance(actual_status="exited", is_bid=True, **STOPPED)
    assert provider(Wire().on(LIST, listed(row)).on(ME, account)).get("101").status is status


def test_words_that_come_again_are_no_progress() -> None:
    clock = FakeClock()
    texts = ["Pulling", "retrying", "Pulling", "retrying", "Verifying"]
    wire = Wire().on(LIST, *(listed(instance(status_msg=text)) for text in texts))
    cloud, told = provider(wire, clock), []
    for _ in texts:
        told.append(cloud.get("101").progress)
        clock.advance(3)
    assert told[1:4] == ["loading: retrying"] * 3 and told[4] == "loading: Verifying"
    assert len(set(told)) == 3


def test_a_running_machine_can_be_reached_in_two_ways() -> None:
    found = provider(Wire().on(LIST, listed(instance(**RUNNING)))).get("101")
    assert isinstance(found.access, SshAccess) and found.access.port == 41022
    assert len(found.other_access) == 1


# -- ending -----------------------------------------------------------------------------------------------------------


def test_what_is_gone_already_is_ended() -> None:
    wire = Wire().on(DESTROY, NO_INSTANCE)
    provider(wire).terminate("101")
    assert wire.calls() == [DESTROY]


def test_a_gateways_404_is_not_the_word_that_it_is_gone() -> None:
    with pytest.raises(Unreachable):
        provider(Wire().on(DESTROY, Reply(404, text="<html>404 Not Found</html>"))).terminate("101")


def test_a_machine_is_not_taken_from_memory_once_it_is_to_end() -> None:
    clock = FakeClock()
    wire = Wire().on(LIST, listed(instance(**RUNNING))).on(DESTROY, YES).on(SHOW, {"instances": instance(**RUNNING)})
    cloud = provider(wire, clock)
    assert cloud.get("101").status is InstanceStatus.RUNNING
    cloud.terminate("101")
    assert cloud.get("101").status is InstanceStatus.RUNNING, "and its cloud bills for it"
    clock.advance(3)
    wire.on(SHOW, {"instances": None})
    with pytest.raises(NotFound):
        cloud.get("101")


# -- money ------------------------------------------------------------------------------------------------------------


def bill(**changes: Any) -> Mapping[str, Any]:
    start = int(START.timestamp())
    gpu = {"type": "gpu", "start": start, "end": start + 3600, "amount": 0.34, "description": ""}
    row = {"source": "instance-101", "items": [gpu]}
    return {"success": True, "results": [{"source": "instance-1011", "items": [gpu]}, {**row, **changes}]}


def test_a_bill_is_final_once_the_machine_is_gone() -> None:
    clock = FakeClock()
    wire = Wire().on(LIST, listed(instance(**RUNNING))).on(CHARGES, bill())
    cloud = provider(wire, clock)
    machine = cloud.get("101")
    [charge] = cloud.charges(machine, START)
    assert (charge.meter, charge.usd, charge.final) == ("compute", Decimal("0.34"), False)
    wire.on(LIST, listed()).on(SHOW, {"instances": None})
    clock.advance(2 * 3600)
    [charge] = cloud.charges(machine, START)
    assert charge.final


def test_a_bill_is_asked_for_by_whole_days() -> None:
    wire = Wire().on(LIST, listed(instance())).on(CHARGES, bill())
    cloud = provider(wire)
    cloud.charges(cloud.get("101"), START)
    midnight = int((START - timedelta(hours=START.hour)).timestamp())
    assert str(midnight) in str(wire.asked[1].url)


def test_without_a_row_nothing_is_said() -> None:
    wire = Wire().on(LIST, listed(instance())).on(CHARGES, bill(source="instance-999"))
    cloud = provider(wire)
    assert cloud.charges(cloud.get("101"), START) == ()


def test_what_the_cloud_is_like() -> None:
    traits = provider(Wire().on(CREATE, MADE)).traits
    assert traits.is_container and traits.has_spot and not traits.simulated and not traits.owned
    assert traits.self_destruct[0] == "sh"
