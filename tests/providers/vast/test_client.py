"""Vast.ai by its SDK: one request per call, at its turn, and no answer taken for more than it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from providers.errors import Ambiguous, AuthFailed, NotFound, OfferGone, ProviderError, Throttled, Unreachable
from providers.vast import sdk
from tests.fakes.clock import FakeClock
from tests.providers.vast.wire import (
    ATTACH,
    CHARGES,
    CREATE,
    DESTROY,
    LIST,
    MADE,
    ME,
    SEARCH,
    SHOW,
    YES,
    Wire,
    ask,
    client,
    instance,
    listed,
)
from tests.providers.wire import KEY, Reply

BODY = {"image": "python:3.12"}


@pytest.mark.parametrize(
    "trouble",
    [requests.ConnectionError("reset"), requests.ReadTimeout("slow"), Reply(502), Reply(503), Reply(504), Reply(429)],
    ids=repr,
)
def test_a_create_is_sent_once_whatever_comes_back(trouble: object) -> None:
    """The SDK's own second try would be told "offer gone" while the first one's machine bills."""
    gone = Reply(410, {"success": False, "error": "no_such_ask", "msg": "no_such_ask 7 is no longer available."})
    wire = Wire().on(CREATE, trouble, gone)
    with pytest.raises((Ambiguous, Throttled)):
        client(wire).create(7, BODY)
    assert wire.calls() == [CREATE]


def test_a_create_does_not_use_a_kept_connection() -> None:
    wire = Wire().on(CREATE, MADE).on(LIST, listed())
    one = client(wire)
    one.instances()
    assert wire.closed == 0
    one.create(7, BODY)
    assert wire.closed > 0


@pytest.mark.parametrize("answer", [YES, {"success": True, "new_contract": None}, {"success": True, "new_contract": 0}])
def test_a_create_that_does_not_say_what_it_made_is_ambiguous(answer: dict[str, object]) -> None:
    with pytest.raises(Ambiguous) as caught:
        client(Wire().on(CREATE, answer)).create(7, BODY)
    assert caught.value.created_id is None


def test_status_200_without_success_is_an_error() -> None:
    wire = Wire().on(CREATE, {"success": False, "error": "no_such_ask", "msg": "7 is no longer available."})
    with pytest.raises(OfferGone):
        client(wire).create(7, BODY)
    wire = Wire().on(CHARGES, {"success": False, "msg": "Must provide both 'day' gte and lte filters"})
    with pytest.raises(ProviderError):
        list(client(wire).charges(FakeClock()(), FakeClock()()))


def test_what_a_create_sends_reaches_the_wire_as_it_is() -> None:
    wire = Wire().on(CREATE, MADE)
    assert client(wire).create(7, {**BODY, "cancel_unavail": True}) == "101"
    assert wire.body(CREATE) == {**BODY, "cancel_unavail": True}


def test_the_key_goes_in_a_header_and_a_netrc_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wire = Wire().on(LIST, listed())
    client(wire).instances()
    assert wire.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(wire.asked[0].url)


def test_every_call_has_its_time() -> None:
    wire = Wire().on(CREATE, MADE).on(LIST, listed()).on(SEARCH, {"offers": []}).on(DESTROY, YES)
    one = client(wire)
    one.create(7, BODY)
    one.instances()
    one.search({}, bid=False, storage_gb=8, limit=64)
    one.destroy("101")
    assert all(connect <= 10 and read <= 60 for connect, read in wire.timeouts)


def test_a_redirect_is_followed_by_nothing_that_changes_something() -> None:
    there = Reply(302, headers={"Location": "https://elsewhere.example/"})
    wire = Wire().on(DESTROY, there)
    with pytest.raises(Unreachable):
        client(wire).destroy("101")
    assert len(wire.asked) == 1


# -- the pace ---------------------------------------------------------------------------------------------------------


def test_a_short_wait_is_waited_and_a_long_one_is_left_to_the_caller() -> None:
    clock = FakeClock()
    wire = Wire().on(LIST, listed()).on(DESTROY, YES)
    one, started = client(wire, clock), clock()
    one.instances()
    one.instances()
    assert 1 <= (clock() - started).total_seconds() <= 1.5
    one.destroy("101")
    with pytest.raises(Throttled) as caught:
        one.destroy("101")
    assert 3 <= caught.value.after <= 3.5
    assert len(wire.calls(DESTROY)) == 1, "what comes too early is not sent"


def test_two_creates_are_four_and_a_half_seconds_apart() -> None:
    clock = FakeClock()
    wire = Wire().on(CREATE, MADE)
    one = client(wire, clock)
    one.create(7, BODY)
    with pytest.raises(Throttled) as caught:
        one.create(7, BODY)
    clock.advance(caught.value.after)
    one.create(7, BODY)
    assert len(wire.asked) == 2


def test_after_a_429_nothing_is_sent_until_its_time() -> None:
    clock = FakeClock()
    wire = Wire().on(LIST, Reply(429, text="API requests too frequent", headers={"Retry-After": "9"}), listed())
    one = client(wire, clock)
    for _ in range(2):
        with pytest.raises(Throttled) as caught:
            one.instances()
        assert caught.value.after == pytest.approx(9, abs=0.1)
    assert len(wire.asked) == 1
    clock.advance(9)
    one.instances()


def test_when_the_searches_of_the_day_are_used_up_nobody_asks_again_that_day() -> None:
    clock = FakeClock()
    wire = Wire().on(SEARCH, Reply(429, {"success": False, "error": "search_quota_exceeded", "msg": "quota"}))
    one = client(wire, clock)
    for hours in (0, 11):
        clock.advance(hours * 3600)
        with pytest.raises(Throttled):
            one.search({}, bid=False, storage_gb=8, limit=64)
    assert len(wire.asked) == 1


# -- looking ----------------------------------------------------------------------------------------------------------


def test_an_instance_that_is_null_does_not_exist() -> None:
    with pytest.raises(NotFound):
        client(Wire().on(SHOW, {"instances": None})).instance("101")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"instances": []},
        {"instances": {}},
        {"instances": {"id": 102}},
        Reply(200, text="null"),
        Reply(200, text=""),
    ],
    ids=repr,
)
def test_an_answer_without_sense_never_means_that_an_instance_is_gone(answer: object) -> None:
    with pytest.raises(Unreachable):
        client(Wire().on(SHOW, answer)).instance("101")


def test_an_instance_that_is_being_provisioned_is_shown() -> None:
    """The SDK's own function fails on it: it computes with its start and takes its variables apart."""
    row = {"id": 101, "actual_status": None, "start_date": None, "extra_env": None}
    assert client(Wire().on(SHOW, {"instances": row})).instance("101") == row


def test_a_list_is_walked_to_its_end() -> None:
    wire = Wire().on(LIST, listed(instance(1), next_token="abc"), listed(instance(2)))
    assert [row["id"] for row in client(wire).instances({"label": {"eq": "x"}})] == [1, 2]
    first, second = (str(request.url) for request in wire.asked)
    assert "limit=25" in first and "label" in first and "after_token" not in first
    assert "after_token=abc" in second and "next_token" not in second


@pytest.mark.parametrize("answer", [{}, {"instances": None}, {"instances": [None]}, {"success": True}, Reply(200, [])])
def test_a_list_without_sense_is_not_an_empty_list(answer: object) -> None:
    with pytest.raises(Unreachable):
        client(Wire().on(LIST, answer)).instances()


def test_the_retired_list_is_not_an_empty_list() -> None:
    gone = Reply(410, {"success": False, "error": "deprecated_endpoint", "msg": "Use /api/v1/instances/ instead."})
    with pytest.raises(ProviderError, match="retired"):
        client(Wire().on(LIST, gone)).instances()


def test_a_list_that_does_not_end_is_not_believed() -> None:
    wire = Wire().on(LIST, listed(instance(), next_token="abc"))
    with pytest.raises(Unreachable):
        client(wire).instances()
    assert len(wire.asked) == 2


def test_a_bill_is_read_page_by_page_and_as_far_as_it_is_wanted() -> None:
    page = {"success": True, "results": [{"source": "instance-101"}], "next_token": "abc"}
    wire = Wire().on(CHARGES, page, {**page, "next_token": None})
    now = FakeClock()()
    assert len(list(client(wire).charges(now, now))) == 2
    assert "%22instance%22" in str(wire.asked[0].url) and "after_token=abc" in str(wire.asked[1].url)


def test_the_account_comes_without_its_key() -> None:
    wire = Wire().on(ME, {"credit": 12.5, "api_key": "rehearsal-other"})
    assert client(wire).user() == {"credit": 12.5}


def test_a_key_is_attached_to_one_instance() -> None:
    wire = Wire().on(ATTACH, YES)
    client(wire).attach_key("101", "ssh-ed25519 AAAA")
    assert wire.body(ATTACH) == {"ssh_key": "ssh-ed25519 AAAA"}


# -- searching --------------------------------------------------------------------------------------------------------


def test_a_search_sends_our_filters_and_none_of_the_sdks() -> None:
    wire = Wire().on(SEARCH, {"offers": [ask()]})
    assert len(client(wire).search({"num_gpus": {"eq": 1}}, bid=True, storage_gb=40, limit=64)) == 1
    assert wire.body(SEARCH) == {
        "num_gpus": {"eq": 1},
        "type": "bid",
        "order": [["dph_total", "asc"]],
        "limit": 64,
        "allocated_storage": 40,
    }


def test_prices_are_public_and_nothing_else_is() -> None:
    wire = Wire().on(SEARCH, {"offers": []})
    one = client(wire, key="")
    one.search({}, bid=False, storage_gb=8, limit=64)
    assert "Authorization" not in wire.asked[0].headers
    with pytest.raises(AuthFailed):
        one.instances()
    with pytest.raises(AuthFailed):
        one.create(7, BODY)
    assert len(wire.asked) == 1


@pytest.mark.parametrize("answer", [{}, {"offers": None}, {"offers": {}}, Reply(200, []), Reply(200, text="<html>")])
def test_a_search_without_sense_does_not_mean_that_nothing_is_offered(answer: object) -> None:
    with pytest.raises(Unreachable):
        client(Wire().on(SEARCH, answer)).search({}, bid=False, storage_gb=8, limit=64)


# -- the SDK ----------------------------------------------------------------------------------------------------------


def test_the_sdk_still_has_what_is_put_in_place_of_its_own() -> None:
    """If a newer one sends its requests otherwise, one_try would be out of use, and its own tries be back."""
    assert callable(sdk.client.VastClient._request)
    assert {"method", "url", "headers", "json_data"} <= set(sdk.client.VastClient._request.__code__.co_varnames)


@pytest.mark.process
def test_the_sdks_serverless_side_is_not_imported_and_not_taken_from_others() -> None:
    script = (
        "import sys, providers.vast.client; assert 'aiohttp' not in sys.modules\n"
        "import vastai; assert vastai.Serverless is not None and vastai.api.instances is not None"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
