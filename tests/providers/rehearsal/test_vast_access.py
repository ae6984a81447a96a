"""Who may ask the simulated Vast.ai for what, and how often."""

from __future__ import annotations

import pytest

from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.faults import CALLS, Fault
from providers.rehearsal.machines.base import MachinePhase
from tests.providers.rehearsal.vast_tenant import Tenant


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


# -- keys -------------------------------------------------------------------------------------------------------------


def test_without_a_key_it_is_403(tenant: Tenant) -> None:
    for method, path in (
        ("GET", "/users/current"),
        ("PUT", "/asks/1/"),
        ("GET", "/charges/"),
        ("GET", "/instances/1/"),
    ):
        status, body = tenant.ask(method, path, key=None)
        assert (status, body["error"], body["msg"]) == (403, "auth_error", "This action requires login.")


def test_an_unknown_key_is_401_or_404(tenant: Tenant) -> None:
    for path, expected in (
        ("/users/current", 401),
        ("/instances/1/", 401),
        ("/charges/", 404),
        ("/api/v1/invoices/", 404),
    ):
        status, body = tenant.ask("GET", path, key="nobody")
        assert (status, body["error"], body["msg"]) == (expected, "auth_error", "Invalid user key")


def test_the_key_may_be_in_the_query(tenant: Tenant) -> None:
    key = tenant.cloud.environment()["VAST_API_KEY"]
    assert key.startswith("rehearsal")
    assert tenant.ask("GET", f"/users/current?api_key={key}", key=None)[0] == 200


def test_an_instance_may_look_at_itself_and_end_itself_with_its_own_key(tenant: Tenant) -> None:
    mine, other = tenant.running(), tenant.running()
    key = tenant.machines.requests[f"vast-{mine}"].env["CONTAINER_API_KEY"]
    for method, path in (
        ("GET", f"/instances/{other}/"),
        ("DELETE", f"/instances/{other}/"),
        ("GET", "/users/current"),
    ):
        status, body = tenant.ask(method, path, key=key)
        assert (status, body["error"]) == (403, "auth_error")
    assert tenant.ask("PUT", f"/asks/{tenant.offer()['id']}/", {"image": "x"}, key=key)[0] == 403
    assert tenant.ask("GET", "/api/v1/instances/", key=key)[0] == 403
    assert tenant.ask("GET", f"/instances/{mine}/", key=key)[1]["instances"]["id"] == mine
    assert tenant.destroy(mine, key=key) == (200, {"success": True})
    assert tenant.ask("GET", f"/instances/{mine}/")[1] == {"instances": None}
    assert tenant.machines.look(f"vast-{mine}").phase is MachinePhase.GONE and not tenant.meters(mine)
    assert tenant.meters(other)


def test_the_user_of_the_key(tenant: Tenant) -> None:
    status, body = tenant.ask("GET", "/users/current")
    assert status == 200 and body["credit"] == 100 and body["api_key"] == tenant.cloud.environment()["VAST_API_KEY"]


# -- rate limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "seconds"),
    [
        ("GET", "/instances/7/", 2),
        ("GET", "/api/v1/instances/", 1),
        ("PUT", "/instances/7/", 1),
        ("DELETE", "/instances/7/", 3),
        ("PUT", "/instances/bid_price/7/", 5.5),
        ("PUT", "/instances/reboot/7/", 1),
        ("PUT", "/instances/command/7/", 1.5),
        ("GET", "/charges/", 1),
        ("GET", "/api/v1/invoices/", 3),
        ("POST", "/ssh/", 1),
        ("DELETE", "/instances/7/ssh/1/", 2),
    ],
)
def test_every_endpoint_has_its_least_interval(method: str, path: str, seconds: float) -> None:
    tenant = Tenant(rate_limits=True)
    assert tenant.ask(method, path, {})[0] != 429
    tenant.clock.advance(seconds - 0.1)
    assert tenant.ask(method, path, {})[0] == 429
    tenant.clock.advance(0.2)
    assert tenant.ask(method, path, {})[0] != 429, "a refused request does not count"


def test_the_bodies_of_429_differ() -> None:
    tenant = Tenant(rate_limits=True)
    for _ in range(2):
        show = tenant.response("GET", "/instances/7/")
        destroy = tenant.response("DELETE", "/instances/7/", {})
        create = tenant.response("PUT", "/asks/7/", {"image": "x"})
        charges = tenant.response("GET", "/charges/")
    assert {answer.status_code for answer in (show, destroy, create, charges)} == {429}
    assert (
        show.mimetype == "text/plain"
        and show.get_data(as_text=True) == "API requests too frequent: endpoint threshold=2.0"
    )
    assert destroy.get_json()["error"] == "rate_limit_exceeded"
    assert create.get_json() == {"detail": "API requests too frequent endpoint threshold=4.5"}
    assert (charges.headers["Retry-After"], charges.get_json()["retry_after"]) == ("1", 1)
    assert not any("Retry-After" in answer.headers for answer in (show, destroy, create))


def test_who_creates_too_soon_waits_longer() -> None:
    tenant = Tenant(rate_limits=True)
    ask = tenant.offer()["id"]
    assert tenant.create(1)[0] == 404
    tenant.clock.advance(4)
    assert tenant.create(ask)[0] == 429
    tenant.clock.advance(11)
    assert tenant.create(ask)[0] == 429
    tenant.clock.advance(1)
    assert tenant.create(ask)[0] == 200
    tenant.clock.advance(4.5)
    assert tenant.create(1)[0] != 429


def test_limits_are_per_identity() -> None:
    tenant = Tenant(rate_limits=True)
    instance = tenant.rent()
    key = tenant.machines.requests[f"vast-{instance}"].env["CONTAINER_API_KEY"]
    assert tenant.ask("GET", f"/instances/{instance}/")[0] == 200
    assert tenant.ask("GET", f"/instances/{instance}/")[0] == 429
    assert tenant.ask("GET", f"/instances/{instance}/", key=key)[0] == 200


def test_ten_searches_a_minute() -> None:
    tenant = Tenant(rate_limits=True)
    for _ in range(10):
        tenant.search()
    assert tenant.ask("POST", "/bundles/", {}) == (429, "API requests too frequent")
    tenant.clock.advance(61)
    tenant.search()


def test_a_quota_of_searches_ends_at_midnight() -> None:
    tenant = Tenant()
    tenant.cloud.vast.limits.daily_searches = 2
    tenant.search()
    tenant.search()
    refused = tenant.response("POST", "/bundles/", {})
    assert (refused.status_code, refused.get_json()["error"]) == (429, "search_quota_exceeded")
    reset = int(refused.headers["X-RateLimit-Reset"])
    assert reset % 86_400 == 0
    tenant.clock.advance(reset - tenant.clock().timestamp() + 1)
    tenant.search()


# -- faults on the wire -----------------------------------------------------------------------------------------------


def test_it_is_a_simulated_cloud_that_knows_its_calls(tenant: Tenant) -> None:
    cloud: SimulatedCloud = tenant.cloud
    instance = tenant.running()
    tenant.search()
    tenant.list()
    tenant.charges()
    tenant.destroy(instance)
    assert {asked.call for asked in cloud.requests} == set(CALLS) - {"other"}
    tenant.ask("PUT", f"/instances/{instance}/", {"label": "x"})
    assert cloud.requests[-1].call == "other"


@pytest.mark.parametrize("seconds", [0, 7])
def test_throttled_is_plain_text_with_or_without_retry_after(tenant: Tenant, seconds: float) -> None:
    tenant.cloud.faults.add(Fault(kind="throttled", on="create", seconds=seconds))
    answer = tenant.response("PUT", "/asks/1/", {"image": "x"})
    assert (answer.status_code, answer.mimetype) == (429, "text/plain")
    assert answer.get_data(as_text=True) == "API requests too frequent"
    assert answer.headers.get("Retry-After") == ("7" if seconds else None)


@pytest.mark.parametrize(("status", "mimetype"), [(0, "application/json"), (502, "text/html"), (403, "text/html")])
def test_errors_of_the_server_are_json_and_of_what_stands_before_it_html(
    tenant: Tenant, status: int, mimetype: str
) -> None:
    tenant.cloud.faults.add(Fault(kind="error", on="list", status=status))
    answer = tenant.response("GET", "/api/v1/instances/")
    assert (answer.status_code, answer.mimetype) == (status or 500, mimetype)
    if not status:
        assert answer.get_json()["error"] == "server_error"
