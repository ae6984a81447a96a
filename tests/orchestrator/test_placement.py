"""Where a job goes: what it would cost in all decides, after what was preferred; and why the others are left out."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Spec
from orchestrator.estimates import Estimates
from orchestrator.placement import Ranking, quote, why_nothing_fits
from orchestrator.records import Outcome, Phase
from providers.base import OfferQuery, Offers, Traits
from providers.errors import AuthFailed, NoCapacity, Unreachable
from tests.fakes.clock import FakeClock
from tests.fakes.memory_provider import MemoryProvider, Outage, offer
from tests.orchestrator.living import Living


def spec(**content: Any) -> Spec:
    return Spec.model_validate({"name": "job", "run": "true", **content})


def cloud(*offers: Any, name: str = "memory", **traits: Any) -> MemoryProvider:
    return MemoryProvider(FakeClock(), name=name, offers=offers, traits=Traits(is_container=True, **traits))


def ids(ranking: Ranking) -> list[str]:
    return [ranked.offer.offer_id for ranked in ranking.offers]


def totals(ranking: Ranking) -> dict[str, Decimal]:
    return {ranked.offer.offer_id: ranked.total_usd for ranked in ranking.offers}


def test_the_total_has_every_meter() -> None:
    meters: dict[str, Any] = {
        "disk_usd_per_gb_month": Decimal("0.72"),
        "other_usd_per_hour": Decimal("0.005"),
        "ingress_usd_per_gb": Decimal("0.01"),
        "egress_usd_per_gb": Decimal("0.09"),
    }
    one = cloud(offer("one", usd_per_hour="0.30", **meters))
    job = spec(resources={"disk": "100GB"})
    ranking = quote(
        job, [one], expected=Estimates(job, expected_hours=Decimal(2)), ingress_gb=Decimal(3), egress_gb=Decimal(10)
    )
    #                      compute and address   + disk 100 GB            + in and out
    assert totals(ranking)["one"] == Decimal("0.305") * 2 + Decimal("0.20") + Decimal("0.93")


def test_a_boot_is_paid_like_work() -> None:
    slow = cloud(offer("slow", usd_per_hour="1.00", provider="slow"), name="slow", usual_boot=900.0)
    quick = cloud(offer("quick", usd_per_hour="1.10", provider="quick"), name="quick", usual_boot=60.0)
    ranking = quote(spec(), [slow, quick])
    assert ids(ranking) == ["quick", "slow"]
    assert totals(ranking)["slow"] == Decimal("1.25")


@pytest.mark.parametrize(("build", "why"), [({"context": "."}, "build.push"), ({"push": "ghcr.io/me/job"}, None)])
def test_a_container_is_not_rented_for_an_image_that_its_cloud_cannot_pull(build: Any, why: str | None) -> None:
    host = MemoryProvider(FakeClock(), name="host", offers=[offer("vm", provider="host")])
    ranking = quote(spec(build=build), [cloud(offer("pod")), host])
    assert ids(ranking) == (["vm"] if why else ["pod", "vm"])
    assert why is None or why in ranking.passed_over["memory"]


def test_a_short_job_is_not_priced_as_a_long_one() -> None:
    ranking = quote(spec(limits={"max_duration": "15m"}), [cloud(offer("one", usd_per_hour="1.00"))])
    assert totals(ranking)["one"] == Decimal("0.25")


def test_what_is_preferred_goes_before_what_is_cheaper() -> None:
    rented = cloud(
        offer("dear", usd_per_hour="0.90", gpu="H100-SXM"),
        offer("cheap", usd_per_hour="0.20", gpu="RTX4090"),
        offer("dearer", usd_per_hour="1.50", gpu="H100-SXM"),
    )
    assert ids(quote(spec(resources={"gpu": ["H100-SXM", "RTX4090"]}), [rented])) == ["dear", "dearer", "cheap"]


def test_what_costs_the_same_goes_by_reliability() -> None:
    rented = cloud(offer("a", reliability=0.91), offer("b", reliability=0.99), offer("c"))
    assert ids(quote(spec(), [rented])) == ["b", "a", "c"]


def test_the_cap_holds_for_a_cloud_that_does_not_keep_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = cloud(offer("low", usd_per_hour="0.50"), offer("high", usd_per_hour="0.90"))
    monkeypatch.setattr(careless, "offers", lambda query: Offers(careless.rentable))
    ranking = quote(spec(limits={"max_price_per_hour": "0.80"}), [careless])
    assert [ranked.offer.offer_id for ranked in ranking.eligible] == ["low"]
    assert ranking.offers[1].why_not == "costs $0.90 per hour, more than $0.80"


def test_an_offer_that_was_tried_is_another_than_one_of_the_same_id_elsewhere() -> None:
    here, there = (cloud(offer("1", provider=name), name=name) for name in ("here", "there"))
    ranking = quote(spec(), [here, there], tried={("here", "1")})
    assert [ranked.offer.provider for ranked in ranking.eligible] == ["there"]
    ranking = quote(spec(), [here, there], remembered={("there", "1"): "no capacity", ("here", "host-1"): "bad disk"})
    assert [ranked.why_not for ranked in ranking.offers] == ["bad disk", "no capacity"]


def unusable(name: str) -> MemoryProvider:
    made = cloud(offer("1", provider=name), name=name)
    made.faults.unusable = "no key: set CLOUD_KEY"
    return made


def test_a_cloud_that_is_not_set_up_is_passed_over_and_not_asked() -> None:
    without, ready = unusable("without"), cloud()
    ranking = quote(spec(), [without, ready])
    assert ids(ranking) == ["small"] and ranking.unavailable == {}
    assert ranking.passed_over == {"without": "no key: set CLOUD_KEY"}
    assert without.calls["offers"] == 0


def test_a_cloud_that_was_named_must_be_set_up() -> None:
    ranking = quote(
        spec().model_copy(update={"place": spec().place.model_copy(update={"providers": ("without",)})}),
        [unusable("without")],
    )
    assert ranking.passed_over == {} and isinstance(ranking.unavailable["without"], AuthFailed)
    assert "set CLOUD_KEY" in str(ranking.unavailable["without"])


def test_one_that_does_not_answer_is_left_out() -> None:
    silent = cloud(name="silent")
    silent.faults.outages.append(Outage(0, 60))
    ranking = quote(spec(), [silent, cloud()])
    assert ids(ranking) == ["small"] and isinstance(ranking.unavailable["silent"], Unreachable)


@pytest.mark.process
def test_one_that_hangs_delays_the_others_for_a_limited_time_only() -> None:
    release = threading.Event()

    class Hung(MemoryProvider):
        def offers(self, query: OfferQuery) -> Offers:
            release.wait()
            return Offers()

    try:
        ranking = quote(spec(), [Hung(FakeClock(), name="hung"), cloud()], seconds=1)
    finally:
        release.set()
    assert ids(ranking) == ["small"] and "no answer" in str(ranking.unavailable["hung"])


def test_a_simulated_offer_is_marked() -> None:
    [ranked] = quote(spec(), [cloud(simulated=True)]).offers
    assert ranked.is_simulated and "simulated" in ranked.offer.source


def test_what_the_nearest_offers_lack_is_said_for_each_cloud() -> None:
    far = [offer(f"far-{number}", gpu="T4", usd_per_hour="0.10", region=f"r{number}") for number in range(9)]
    full = cloud(*far, offer("near", gpu="L4", usd_per_hour="9.00", gpu_memory_gb=22.9))
    silent = cloud(name="silent")
    silent.faults.outages.append(Outage(0, 60))
    reasons = why_nothing_fits(
        spec(resources={"gpu": {"name": "L4", "memory": "24GB"}}), [full, silent, unusable("without")]
    )
    assert reasons[0] == "memory here has 22.9 GB GPU memory, 24 GB wanted"
    assert reasons[-1] == "without cannot be used: no key: set CLOUD_KEY"
    assert not any(reason.startswith("silent") for reason in reasons)


def test_the_price_is_the_reason_where_it_alone_is_in_the_way() -> None:
    spot = [offer(f"s{number}", gpu="L4", spot=True, usd_per_hour="6.00", region=f"r{number}") for number in range(9)]
    dear = offer("dear", gpu="L4", usd_per_hour="9.00")
    wanted = spec(resources={"gpu": {"name": "L4"}}, limits={"max_price_per_hour": "5"})
    assert why_nothing_fits(wanted, [cloud(*spot, dear)])[0] == "memory here costs $9.00 per hour, more than $5"


def test_a_run_that_names_a_cloud_without_a_key_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    living = Living(tmp_path)
    living.cloud.faults.unusable = "no key: set CLOUD_KEY"
    living.submit()
    run = living.until_done()
    living.store.close()
    assert run.outcome is Outcome.REFUSED and "set CLOUD_KEY" in (run.error or "")
    assert living.cloud.made() == ()


def test_a_run_goes_on_to_another_clouds_offer_of_the_same_id(tmp_path: Path) -> None:
    living = Living(tmp_path, offers=[offer("1", usd_per_hour="0.10")])
    other = MemoryProvider(living.clock, name="other", offers=[offer("1", usd_per_hour="0.20", provider="other")])
    living.controller.world.use(other)
    living.cloud.faults.creates.append(NoCapacity("none left"))
    living.submit(place={"providers": ["memory", "other"]})
    living.until(Phase.BOOT)
    living.store.close()
    assert living.cloud.made() == () and len(other.made()) == 1
