"""RunPod as a whole, over a scripted wire that answers nonsense: a machine is shown or an error is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.base import OfferQuery
from providers.errors import NotFound, ProviderError, Throttled, Unreachable
from providers.runpod.client import translate
from providers.runpod.pace import Pace
from providers.transport import Answer
from tests.fakes.clock import START
from tests.fuzz import sense
from tests.fuzz.nonsense import DEEP, HTML, examples, headers, mutated, replies, statuses
from tests.fuzz.test_runpod import CPU, GPU, POD
from tests.providers.runpod import wire
from tests.providers.wire import Reply, request

Json = dict[str, Any]

GOOD = wire.pod("p2", "gpujob-r-good-1-1")
REFUSALS: tuple[Json, ...] = (
    {"title": "Bad Request", "status": 400, "detail": "no instances currently available", "errors": ["a", "b"]},
    {"errors": [{"message": "pod not found", "extensions": {"code": "POD_NOT_FOUND"}}]},
    {"title": "Payment Required", "status": 402, "detail": "balance is too low"},
)


@given(statuses, st.sampled_from(REFUSALS).flatmap(replies), headers, st.booleans())
@example(200, DEEP, {}, True)
@example(200, json.dumps({"errors": [{"message": "x", "extensions": "y"}]}), {}, False)
@example(400, json.dumps({"detail": "x" * 490 + "key-key-key-key"}), {}, False)
@example(400, json.dumps({"errors": ["A" * 10_000] * 1000}), {}, False)
@example(429, "", {"Retry-After": "9" * 400}, False)
@examples(500)
def test_every_refusal_is_an_error_of_ours(status: int, text: str, said: Json, creating: bool) -> None:
    error = translate(Answer(status, text, said), creating=creating, secrets=("key-key-key-key",))
    assert isinstance(error, ProviderError)
    sense.error(error)
    assert "key-key" not in str(error)
    if isinstance(error, Throttled):
        assert 0 < error.after <= 24 * 3600


@pytest.mark.parametrize("text", [HTML, "", "not found", DEEP])
def test_a_page_that_is_not_runpods_never_says_that_a_pod_is_gone(text: str) -> None:
    """A proxy's or Cloudflare's 404 is no word of the cloud's: the attempt would be closed, and the pod would bill."""
    looking = wire.provider(wire.Wire().on("GET /v2/pods", wire.EMPTY).on("GET /v2/pods/p1", Reply(404, text=text)))
    with pytest.raises(Unreachable):
        looking.get("p1")


@given(replies({"pods": [POD, GOOD]}), statuses)
@example('{"pods": [{"cost": 1e99999999999999999999}]}', 200)
@example(DEEP, 200)
@examples(300)
def test_a_list_has_every_pod_or_is_an_error(text: str, status: int) -> None:
    made = wire.Wire().on("GET /v2/pods", Reply(status, text=text)).on("GET /v2/registries", {"registries": []})
    looking = wire.provider(made)
    for look in (lambda: looking.list("alice"), lambda: [looking.find("gpujob-r-abc123-1-1", wire.offer())]):
        try:
            found = look()
        except NotFound:
            assert status in (400, 402, 404)
        except ProviderError as error:
            sense.error(error)
        else:
            for machine in filter(None, found):
                sense.instance(machine)


@pytest.mark.parametrize(
    "bad", [{**POD, "cost": "x"}, {**POD, "createdAt": 7}, {**POD, "ssh": []}, {**POD, "disk": {}}]
)
def test_a_pod_that_is_badly_described_is_listed_all_the_same(bad: Json) -> None:
    made = wire.Wire().on("GET /v2/pods", {"pods": [bad, GOOD]}).on("GET /v2/registries", {"registries": []})
    assert [machine.id for machine in wire.provider(made).list("alice")] == ["p1", "p2"]


@given(replies(POD), statuses)
@examples(300)
def test_one_pod_is_shown_or_is_an_error(text: str, status: int) -> None:
    made = wire.Wire().on("GET /v2/pods", wire.EMPTY).on("GET /v2/pods/p1", Reply(status, text=text))
    try:
        sense.instance(wire.provider(made).get("p1"))
    except ProviderError as error:
        sense.error(error)


@given(replies(POD), statuses)
@examples(200)
def test_a_create_is_a_pod_or_an_error(text: str, status: int) -> None:
    made = wire.Wire().on("GET /v2/pods", wire.EMPTY).on("POST /v2/pods", Reply(status, text=text))
    made.on("DELETE /v2/pods/p1", wire.NO_BODY)
    try:
        sense.instance(wire.provider(made).create(wire.offer(), request()))
    except ProviderError as error:
        sense.error(error)


@given(mutated({"gpus": [GPU]}), mutated({"data": {"gpuTypes": [GPU]}}), mutated({"cpus": [CPU]}))
@example({"gpus": [None, GPU]}, {"data": None}, {"cpus": [7]})
@examples(200)
def test_a_catalog_is_offers_or_an_error(gpus: Any, types: Any, cpus: Any) -> None:
    made = wire.Wire().on("GET /v2/catalog/gpus", Reply(body=gpus)).on("POST /graphql", Reply(body=types))
    selling = wire.provider(made.on("GET /v2/catalog/cpus", Reply(body=cpus)))
    for query in (OfferQuery(gpu_count=1), OfferQuery(vcpus=2)):
        try:
            for one in selling.offers(query):
                sense.offer(one)
        except ProviderError as error:
            sense.error(error)


@given(st.one_of(st.text(max_size=50), st.just(f"a;r={'9' * 5000};t=1"), st.just(f"a;r=0;t={'9' * 30}")))
@examples(100)
def test_whatever_is_said_of_the_limit_the_wait_is_at_most_a_day(said: str) -> None:
    pace = Pace()
    pace.heard({"RateLimit": said}, START)
    assert 0 <= pace.wait(START, reading=True) <= 24 * 3600
