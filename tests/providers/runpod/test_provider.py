"""What RunpodProvider asks and what follows from the answers; the wire is a script, the clock stands still."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from providers.base import InstanceStatus, OfferQuery, Settings
from providers.errors import (
    AuthFailed,
    NotFound,
    ProviderError,
    Rejected,
    Throttled,
    Unreachable,
)
from providers.runpod import mapping
from providers.runpod.provider import RunpodProvider
from tests.fakes.clock import FakeClock
from tests.providers.runpod.wire import DIRECT, EMPTY, GONE, NO_BODY, Wire, broken, offer, pod, provider, refused
from tests.providers.wire import Reply, request

Json = dict[str, Any]


class TestWithoutAKey:
    def test_it_says_what_to_do_and_asks_nobody(self) -> None:
        wire = Wire()
        without = provider(wire, key="")
        assert "RUNPOD_API_KEY" in str(without.unusable())
        assert without.check().problems == (without.unusable(),) and wire.asked == []

    def test_a_key_that_went_away_says_nothing_about_pods(self) -> None:
        wire = Wire()
        without = provider(wire, key="")
        for ask in (without.get, without.list, without.terminate):
            with pytest.raises(AuthFailed, match="RUNPOD_API_KEY"):
                ask("p1")
        assert wire.asked == []

    def test_prices_are_public(self) -> None:
        row = {
            "id": "NVIDIA L4",
            "memoryInGb": 24,
            "secureCloud": True,
            "communityCloud": False,
            "securePrice": 0.39,
            "communityPrice": None,
            "maxGpuCountSecureCloud": 4,
            "lowestPrice": {"stockStatus": "High", "minVcpu": 8, "minMemory": 31},
        }
        wire = Wire().on("POST /graphql", {"data": {"gpuTypes": [row]}})
        [found] = provider(wire, key="").offers(OfferQuery(gpu_count=1, vcpus=4))
        assert (found.gpu, found.usd_per_hour, found.vcpus) == ("L4", Decimal("0.39"), 8)
        assert all("Authorization" not in asked.headers for asked in wire.asked)

    def test_a_key_that_comes_later_is_used(self, tmp_path: Path) -> None:
        env: dict[str, str] = {"HOME": str(tmp_path)}
        late = RunpodProvider(Settings(home=tmp_path, env=env, now=FakeClock()))
        assert late.unusable() is not None
        env["RUNPOD_API_KEY"] = "now-there-is-one"
        assert late.unusable() is None


class TestOffers:
    row: Json = {  # noqa: RUF012
        "id": "NVIDIA L4",
        "memory": 24,
        "secure": True,
        "community": True,
        "price": {"secure": 0.39, "community": 0.2},
        "maxCount": {"secure": 8, "community": 8},
        "availability": "LOW",
    }

    def wire(self) -> Wire:
        return Wire().on("GET /v2/catalog/gpus", {"gpus": [self.row]}).on("POST /graphql", {"data": {"gpuTypes": []}})

    def test_both_clouds_are_offered(self) -> None:
        found = provider(self.wire()).offers(OfferQuery(gpu_count=1))
        assert {each.offer_id for each in found} == {"secure:NVIDIA L4:1:any", "community:NVIDIA L4:1:any"}

    def test_spot_is_not_sold_any_more(self) -> None:
        wire = self.wire()
        assert provider(wire).offers(OfferQuery(gpu_count=1, spot=True)) == () and wire.asked == []
        assert all(not each.spot for each in provider(wire).offers(OfferQuery(gpu_count=1, spot=None)))

    def test_offers_need_no_graphql(self) -> None:
        wire = self.wire().on("POST /graphql", Reply(410, {"detail": "retired"}))
        [cheap, _] = sorted(provider(wire).offers(OfferQuery(gpu_count=1, vcpus=4)), key=lambda each: each.usd_per_hour)
        assert (cheap.usd_per_hour, cheap.vcpus) == (Decimal("0.2"), 4)

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [(broken(503), Unreachable), (refused("missing bearer token", 401), AuthFailed), (refused("x", 410), Rejected)],
    )
    def test_a_catalog_that_does_not_come_is_an_error(self, reply: Reply, kind: type[ProviderError]) -> None:
        with pytest.raises(kind):
            provider(self.wire().on("GET /v2/catalog/gpus", reply)).offers(OfferQuery(gpu_count=1))

    def test_quotes_in_a_row_do_not_use_up_the_limit(self) -> None:
        wire, clock = self.wire(), FakeClock()
        asking = provider(wire, clock)
        for _ in range(20):
            assert asking.offers(OfferQuery(gpu_count=1))
            clock.advance(1)
        assert len(wire.calls("GET /v2")) == 2
        clock.advance(30)
        [fresh, *_] = asking.offers(OfferQuery(gpu_count=1))
        assert fresh.fetched_at == clock() and len(wire.calls("GET /v2")) == 4

    def test_cpu_pods_where_the_catalog_has_them(self) -> None:
        flavor = {
            "id": "cpu3c",
            "vcpu": {"min": 2, "max": 32},
            "ramGbPerVcpu": 2,
            "price": {"securePerVcpu": 0.03},
            "availability": "HIGH",
        }
        wire = Wire().on("GET /v2/catalog/cpus", {"cpus": [flavor]})
        [found] = provider(wire).offers(OfferQuery(vcpus=4))
        assert found.offer_id == "cpu:cpu3c:4:any"
        assert provider(Wire()).offers(OfferQuery(vcpus=4)) == (), "an account whose catalog has none"


class TestLooking:
    def test_ten_pods_are_served_from_one_list(self) -> None:
        ten = [pod(f"p{number}", f"n{number}") for number in range(10)]
        wire, clock = Wire().on("GET /v2/pods", {"pods": ten}), FakeClock()
        looking = provider(wire, clock)
        for _ in range(60):
            assert [looking.get(f"p{number}").name for number in range(10)] == [f"n{number}" for number in range(10)]
            clock.advance(1)
        assert len(wire.asked) <= 20

    def test_what_is_seen_is_at_most_three_seconds_old(self) -> None:
        clock = FakeClock()
        wire = Wire().on("GET /v2/pods", {"pods": [pod()]}, {"pods": [pod(ssh={"direct": DIRECT})]})
        looking = provider(wire, clock)
        assert looking.get("p1").access is None
        clock.advance(3)
        assert looking.get("p1").access is not None

    def test_ten_pods_that_no_list_shows_stay_below_the_limit_too(self) -> None:
        wire, clock = Wire().on("GET /v2/pods", EMPTY), FakeClock()
        for number in range(10):
            wire.on(f"GET /v2/pods/p{number}", pod(f"p{number}"))
        looking = provider(wire, clock)
        for _ in range(60):
            for number in range(10):
                try:
                    looking.get(f"p{number}")
                except Throttled as error:
                    assert error.after > 0
            clock.advance(1)
        assert len(wire.asked) <= 50, "of 60 a minute; the rest is for creates and terminates"

    def test_only_the_pods_own_404_says_that_it_is_gone(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY).on("GET /v2/pods/p1", pod())
        assert provider(wire).get("p1").id == "p1"
        with pytest.raises(NotFound):
            provider(wire.on("GET /v2/pods/p1", GONE)).get("p1")

    @pytest.mark.parametrize(
        "reply", [broken(502), requests.ConnectionError(), Reply(200, text="<html>"), Reply(200, {})]
    )
    def test_nothing_else_says_so(self, reply: Any) -> None:
        for wire in (Wire().on("GET /v2/pods", reply), Wire().on("GET /v2/pods", EMPTY).on("GET /v2/pods/p1", reply)):
            with pytest.raises(Unreachable):
                provider(wire).get("p1")

    def test_a_terminated_pod_that_is_still_shown_is_gone(self) -> None:
        wire = (
            Wire().on("GET /v2/pods", {"pods": [pod(status="TERMINATED")]}).on("GET /v2/registries", {"registries": []})
        )
        with pytest.raises(NotFound):
            provider(wire).get("p1")
        assert provider(wire).list("alice") == []

    def test_while_throttled_the_last_state_is_served_for_a_while(self) -> None:
        clock = FakeClock()
        limited = Reply(429, {"detail": "slow down"}, headers={"Retry-After": "60"})
        wire = Wire().on("GET /v2/pods", {"pods": [pod()]}, limited)
        looking = provider(wire, clock)
        looking.get("p1")
        clock.advance(10)
        assert looking.get("p1").id == "p1"
        clock.advance(20)
        with pytest.raises(Throttled) as caught:
            looking.get("p1")
        assert caught.value.after == 40 and len(wire.asked) == 2

    def test_telemetry_that_comes_and_goes_is_no_progress(self) -> None:
        """A boot's deadline counts from the last progress: flapping would keep a dead pod, and its bill, for ever."""
        clock, up = FakeClock(), {"uptime": 5}
        wire = Wire().on("GET /v2/pods", *({"pods": [pod(runtime=up if turn % 2 else None)]} for turn in range(6)))
        looking = provider(wire, clock)
        seen = []
        for _ in range(6):
            seen.append(looking.get("p1").progress)
            clock.advance(3)
        assert len(set(seen)) == 2 and seen[1:] == [seen[1]] * 5

    def test_list_shows_mine_only(self) -> None:
        rows = [
            pod("p1"),
            pod("p2", env={"GPUJOB_OWNER": "bob"}),
            pod("p3", env={}),
            pod("p4", name="theirs", env=None),
        ]
        wire = Wire().on("GET /v2/pods", {"pods": rows}).on("GET /v2/registries", {"registries": []})
        assert [machine.id for machine in provider(wire).list("alice")] == ["p1"]

    def test_lists_are_served_from_one_answer_too(self) -> None:
        wire, clock = Wire().on("GET /v2/pods", {"pods": [pod()]}), FakeClock()
        wire.on("GET /v2/registries", {"registries": []})
        looking = provider(wire, clock)
        for _ in range(5):
            assert len(looking.list("alice")) == 1
            looking.get("p1")
        assert wire.calls().count("GET /v2/pods") == 1

    def test_a_pod_just_made_is_in_the_next_list(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY, {"pods": [pod()]}).on("POST /v2/pods", Reply(201, pod()))
        looking = provider(wire.on("GET /v2/registries", {"registries": []}))
        looking.create(offer(), request())
        assert [machine.id for machine in looking.list("alice")] == ["p1"]

    def test_a_name_is_looked_for_now(self) -> None:
        """Another process may have made it since the last list."""
        wire = Wire().on("GET /v2/pods", {"pods": [pod("p0", "other")]}, {"pods": [pod("p0", "other"), pod()]})
        looking = provider(wire)
        looking.get("p0")
        assert looking.find("gpujob-r-abc123-1-1", offer()) is not None

    def test_an_empty_id_is_nobody(self) -> None:
        wire = Wire()
        with pytest.raises(NotFound):
            provider(wire).get("")
        provider(wire).terminate("")
        assert wire.asked == [], "DELETE /v2/pods/ might be heard"


class TestCommunity:
    """A community host need not have a public address, and v2 cannot ask for one."""

    def test_a_pod_that_gets_no_address_fails_and_its_kind_is_left_alone(self) -> None:
        clock = FakeClock()
        lonely = pod(cloud="COMMUNITY", runtime={"uptime": 89}, gpu={"id": "NVIDIA L4", "count": 1})
        wire = Wire().on("GET /v2/pods", {"pods": [lonely]}, {"pods": [{**lonely, "runtime": {"uptime": 90}}]})
        wire.on("GET /v2/catalog/gpus", {"gpus": [TestOffers.row]}).on("POST /graphql", {"data": {"gpuTypes": []}})
        renting = provider(wire, clock)
        assert renting.get("p1").status is InstanceStatus.BOOTING
        clock.advance(3)
        seen = renting.get("p1")
        assert seen.status is InstanceStatus.FAILED and "public address" in seen.detail
        assert [each.offer_id for each in renting.offers(OfferQuery(gpu_count=1))] == ["secure:NVIDIA L4:1:any"]
        clock.advance(3600)
        assert len(renting.offers(OfferQuery(gpu_count=1))) == 2

    def test_a_secure_pod_is_waited_for(self) -> None:
        wire = Wire().on("GET /v2/pods", {"pods": [pod(runtime={"uptime": 200})]})
        assert provider(wire).get("p1").status is InstanceStatus.BOOTING


class TestTerminate:
    def test_what_is_gone_is_gone(self) -> None:
        provider(Wire().on("DELETE /v2/pods/p1", GONE)).terminate("p1")

    def test_afterwards_the_pod_itself_is_asked(self) -> None:
        clock = FakeClock()
        wire = Wire().on("GET /v2/pods", {"pods": [pod()]}).on("GET /v2/pods/p1", pod(status="EXITED"), GONE)
        wire.on("DELETE /v2/pods/p1", NO_BODY)
        ending = provider(wire, clock)
        ending.get("p1")
        ending.terminate("p1")
        assert ending.get("p1").detail.startswith("EXITED")
        clock.advance(3)
        with pytest.raises(NotFound):
            ending.get("p1")
        assert wire.calls().count("GET /v2/pods") == 1

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (broken(), Unreachable),
            (requests.ReadTimeout(), Unreachable),
            (refused("missing bearer token", 401), AuthFailed),
            (refused("cluster", 409), Rejected),
        ],
    )
    def test_anything_else_is_an_error(self, reply: Any, kind: type[ProviderError]) -> None:
        with pytest.raises(kind):
            provider(Wire().on("DELETE /v2/pods/p1", reply)).terminate("p1")


class TestMoney:
    def test_the_bill_is_asked_for_by_the_hour(self) -> None:
        clock = FakeClock()
        clock.advance(25 * 60)
        row = {
            "startTime": "2026-11-21T12:00:00Z",
            "endTime": "2026-11-21T13:00:00Z",
            "podId": "p1",
            "gpuAmount": 0.2875,
            "cpuAmount": 0,
            "diskAmount": 0.001,
        }
        wire = Wire().on("GET /v2/billing/pods", {"records": [row, {**row, "podId": "p2"}], "metadata": {}})
        wire.on("GET /v2/pods", EMPTY).on("GET /v2/pods/p1", GONE)
        asking, machine = provider(wire, clock), mapping.instance(pod(), now=clock())
        found = asking.charges(machine, machine.created_at)
        assert [(row.meter, row.usd, row.final) for row in found] == [
            ("compute", Decimal("0.2875"), False),
            ("disk", Decimal("0.001"), False),
        ]
        query = str(wire.asked[0].url)
        assert "bucketSize=hour" in query and "podId=p1" in query and "startTime=2026-11-21T12%3A00%3A00Z" in query
        clock.advance(timedelta(hours=3).total_seconds())
        assert all(row.final for row in asking.charges(machine, machine.created_at))

    def test_no_record_is_no_word_about_the_cost(self) -> None:
        wire = Wire().on("GET /v2/billing/pods", {"records": []})
        assert provider(wire).charges(mapping.instance(pod(), now=FakeClock()()), FakeClock()()) == ()


class TestCheck:
    def checked(self, wire: Wire, monkeypatch: pytest.MonkeyPatch, balance: Any) -> Any:
        def account(_: object) -> Any:
            if isinstance(balance, Exception):
                raise balance
            return balance

        monkeypatch.setattr("providers.runpod.client.Client.balance", account)
        return provider(wire).check()

    balance: Json = {"clientBalance": Decimal("12.5"), "currentSpendPerHr": 0, "spendLimit": 80}  # noqa: RUF012

    def test_a_good_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.checked(Wire().on("GET /v2/pods", {"pods": [pod()]}), monkeypatch, self.balance)
        assert found.usable and any("$12.50 of credit" in note for note in found.notes)

    @pytest.mark.parametrize(
        "error", [Unreachable("no answer"), AuthFailed("GraphQL is retired"), KeyError("data"), ImportError("runpod")]
    )
    def test_graphql_is_only_a_note(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        found = self.checked(Wire().on("GET /v2/pods", EMPTY), monkeypatch, error)
        assert found.usable and any("the balance is not known" in note for note in found.notes)

    def test_an_empty_account_is_a_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.checked(Wire().on("GET /v2/pods", EMPTY), monkeypatch, {**self.balance, "clientBalance": 0})
        assert not found.usable and "no credit" in found.problems[0]

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (refused("missing bearer token", 401), "does not accept the key"),
            (refused("access denied", 403), "lacks a permission"),
            (requests.ConnectTimeout(), "not reached"),
            (refused("gone", 410), "retired"),
            (Reply(403, text="error code: 1010"), "Cloudflare"),
        ],
    )
    def test_what_is_wrong_is_said(self, monkeypatch: pytest.MonkeyPatch, reply: Any, words: str) -> None:
        found = self.checked(Wire().on("GET /v2/pods", reply), monkeypatch, self.balance)
        assert not found.usable and words in found.problems[0]
