"""Creating pods: one per name, none too dear, none left over. The wire is a script, the clock stands still."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import requests

from providers.base import InstanceStatus
from providers.errors import (
    Ambiguous,
    NoCapacity,
    NotFound,
    OfferGone,
    QuotaExceeded,
    Rejected,
    Unreachable,
)
from providers.runpod import mapping
from providers.runpod.provider import CANDIDATES
from tests.providers.runpod.wire import EMPTY, GONE, LOGIN, NO_BODY, Wire, broken, offer, pod, provider, refused
from tests.providers.wire import Reply, request

Json = dict[str, Any]


class TestCreate:
    def test_a_name_that_is_there_is_not_made_again(self) -> None:
        wire = Wire().on("GET /v2/pods", {"pods": [pod("p0", "other"), pod("p7")]})
        assert provider(wire).create(offer(), request()).id == "p7"
        assert wire.calls("POST") == []

    def test_a_name_that_was_terminated_is_not_found(self) -> None:
        wire = Wire().on("GET /v2/pods", {"pods": [pod("p7", status="TERMINATED")]})
        assert provider(wire).find("gpujob-r-abc123-1-1", offer()) is None

    def test_a_list_that_lags_makes_no_second_pod(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", Reply(201, pod())).on("GET /v2/pods/p1", pod())
        renting = provider(wire)
        assert renting.create(offer(), request()).id == renting.create(offer(), request()).id == "p1"
        assert len(wire.calls("POST /v2/pods")) == 1

    def test_a_name_that_was_ended_is_not_made_again(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", Reply(201, pod())).on("DELETE /v2/pods/p1", NO_BODY)
        renting = provider(wire)
        renting.create(offer(), request())
        renting.terminate("p1")
        with pytest.raises(Rejected):
            renting.create(offer(), request())

    def test_a_lost_reply_is_ambiguous_and_its_pod_is_found(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY, {"pods": [pod()]}).on("POST /v2/pods", requests.ReadTimeout())
        renting = provider(wire)
        with pytest.raises(Ambiguous):
            renting.create(offer(), request())
        found = renting.find("gpujob-r-abc123-1-1", offer())
        assert found is not None and found.id == "p1", (
            "the list is asked for again although it is not three seconds old"
        )

    def test_a_pod_that_is_described_without_sense_is_still_a_pod(self) -> None:
        """Whatever it says of itself, it bills: it must be seen, and it can be ended by its id."""
        strange = {"id": "p1", "name": 7, "env": {"GPUJOB_DEADLINE": "9" * 30, "GPUJOB_ATTEMPT": "-"}, "cost": "x"}
        strange |= {"createdAt": "2026-99-99 00:00:00", "ssh": {"direct": {"host": "h", "port": "?"}}, "disk": None}
        wire = Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", Reply(201, {**strange, "status": "RUNNING"}))
        made = provider(wire).create(offer(), request())
        assert (made.id, made.status, made.access) == ("p1", InstanceStatus.BOOTING, None)

    def test_every_candidate_refused_means_that_the_request_is_wrong(self) -> None:
        """RunPod's docs: capacity has no code of its own; a broken rule is refused on every candidate alike."""
        wire = Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", refused("some rule"))
        renting = provider(wire)
        candidates = [offer(f"secure:GPU {number}:1:any") for number in range(CANDIDATES)]
        for _ in range(3):  # one offer alone proves nothing
            with pytest.raises(NoCapacity):
                renting.create(candidates[0], request())
        with pytest.raises(NoCapacity):
            renting.create(candidates[1], request())
        with pytest.raises(Rejected, match="some rule"):
            renting.create(candidates[2], request())

    def test_a_pod_in_between_proves_the_request_right(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY)
        wire.on("POST /v2/pods", refused("x"), refused("x"), Reply(201, pod("p9", "other")), refused("x"))
        renting = provider(wire)
        for number in range(2):
            with pytest.raises(NoCapacity):
                renting.create(offer(f"secure:GPU {number}:1:any"), request())
        renting.create(offer(), request(name="other"))
        with pytest.raises(NoCapacity):
            renting.create(offer("secure:GPU 2:1:any"), request())

    def test_words_of_no_capacity_never_mean_a_wrong_request(self) -> None:
        gone = refused("There are no longer any instances available with the requested specifications.")
        renting = provider(Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", gone))
        for number in range(2 * CANDIDATES):
            with pytest.raises(NoCapacity):
                renting.create(offer(f"secure:GPU {number}:1:any"), request())

    def test_the_spend_limit_stops_everything(self) -> None:
        wire = Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", refused("You have reached your spend limit"))
        with pytest.raises(QuotaExceeded, match="support raises it"):
            provider(wire).create(offer(), request())


class TestPriceGuard:
    cap = request(max_usd_per_hour=Decimal("0.50"))

    def wire(self, *after: Any) -> Wire:
        wire = Wire().on("GET /v2/pods", EMPTY).on("POST /v2/pods", Reply(201, pod(cost=0.69)))
        return wire.on("DELETE /v2/pods/p1", NO_BODY).on("GET /v2/pods/p1", *after)

    def test_a_pod_that_is_too_dear_is_ended_at_once(self) -> None:
        wire = self.wire(GONE)
        with pytest.raises(OfferGone, match=r"\$0.69"):
            provider(wire).create(offer(), self.cap)
        assert wire.calls("DELETE") == ["DELETE /v2/pods/p1"]

    def test_a_204_alone_does_not_say_that_it_is_gone(self) -> None:
        with pytest.raises(Ambiguous) as caught:
            provider(self.wire(pod(cost=0.69))).create(offer(), self.cap)
        assert caught.value.created_id == "p1"

    def test_an_end_that_is_not_known_is_not_taken_for_one(self) -> None:
        with pytest.raises(Ambiguous) as caught:
            provider(self.wire().on("DELETE /v2/pods/p1", broken())).create(offer(), self.cap)
        assert caught.value.created_id == "p1"

    def test_what_is_within_is_kept(self) -> None:
        wire = self.wire(pod())
        assert provider(wire).create(offer(), request(max_usd_per_hour=Decimal("0.69"))).id == "p1"
        assert wire.calls("DELETE") == []


class TestRegistries:
    wanted = request(registry=LOGIN)
    name = mapping.registry_name(wanted)

    def wire(self, *created: Any) -> Wire:
        wire = Wire().on("GET /v2/pods", EMPTY).on("GET /v2/registries", {"registries": [{"id": "u", "name": "mine"}]})
        wire.on("POST /v2/registries", Reply(201, {"id": "reg1", "name": self.name}))
        return wire.on("POST /v2/pods", *created).on("DELETE /v2/registries/reg1", NO_BODY)

    def test_the_login_goes_with_the_pod(self) -> None:
        wire = self.wire(Reply(201, pod(registry="reg1"))).on("DELETE /v2/pods/p1", NO_BODY)
        renting = provider(wire)
        made = renting.create(offer(), self.wanted)
        assert wire.body("POST /v2/registries") == {"name": self.name, "username": "user", "password": "pa55-w0rd"}
        body = wire.body("POST /v2/pods")
        assert body["registry"] == "reg1" and "pa55-w0rd" not in str(body)
        renting.terminate(made.id)
        assert wire.calls("DELETE") == ["DELETE /v2/pods/p1", "DELETE /v2/registries/reg1"]

    def test_a_create_that_came_to_nothing_leaves_no_login(self) -> None:
        wire = self.wire(refused("There are no longer any instances available"))
        with pytest.raises(NoCapacity):
            provider(wire).create(offer(), self.wanted)
        assert wire.calls("DELETE") == ["DELETE /v2/registries/reg1"]

    def test_a_pod_that_may_exist_keeps_its_login(self) -> None:
        wire = self.wire(broken())
        with pytest.raises(Ambiguous):
            provider(wire).create(offer(), self.wanted)
        assert wire.calls("DELETE") == []

    def test_a_login_that_an_earlier_create_made_is_used(self) -> None:
        wire = self.wire(Reply(201, pod(registry="reg1")))
        wire.on("GET /v2/registries", {"registries": [{"id": "reg1", "name": self.name}]})
        provider(wire).create(offer(), self.wanted)
        assert wire.calls("POST") == ["POST /v2/pods"]

    def test_a_login_whose_reply_was_lost_rented_nothing(self) -> None:
        wire = self.wire(Reply(201, pod())).on("POST /v2/registries", requests.ReadTimeout())
        with pytest.raises(Unreachable):
            provider(wire).create(offer(), self.wanted)
        assert "POST /v2/pods" not in wire.calls()

    def test_a_login_without_its_pod_is_listed_and_can_be_ended(self) -> None:
        mine = [
            {"id": "reg1", "name": self.name},
            {"id": "u", "name": "dockerhub"},
            {"id": "v", "name": "b.bob.gpujob"},
        ]
        wire = self.wire().on("GET /v2/registries", {"registries": mine})
        renting = provider(wire)
        [left] = renting.list("alice")
        assert (left.id, left.name, left.run_id) == ("registry/reg1", self.wanted.name, "r-abc123")
        assert renting.get(left.id).status is InstanceStatus.FAILED
        renting.terminate(left.id)
        assert wire.calls("DELETE") == ["DELETE /v2/registries/reg1"]
        wire.on("GET /v2/registries", {"registries": []})
        with pytest.raises(NotFound):
            renting.get(left.id)

    def test_with_its_pod_it_is_no_leftover(self) -> None:
        wire = self.wire().on("GET /v2/registries", {"registries": [{"id": "reg1", "name": self.name}]})
        wire.on("GET /v2/pods", {"pods": [pod(registry="reg1")]})
        assert [machine.id for machine in provider(wire).list("alice")] == ["p1"]

    def test_a_login_that_stays_does_not_stand_in_the_way(self) -> None:
        wire = self.wire(Reply(201, pod(registry="reg1"))).on("DELETE /v2/pods/p1", NO_BODY)
        wire.on("DELETE /v2/registries/reg1", broken())
        renting = provider(wire)
        renting.create(offer(), self.wanted)
        renting.terminate("p1")

    def test_a_key_that_may_not_see_logins_has_made_none(self) -> None:
        wire = self.wire().on("GET /v2/registries", refused("access denied", 403))
        assert provider(wire).list("alice") == []

    def test_an_outage_does_not_hide_them(self) -> None:
        with pytest.raises(Unreachable):
            provider(self.wire().on("GET /v2/registries", broken(503))).list("alice")
