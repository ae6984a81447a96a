"""RunPod's pods, catalogs, logins and bills, mutated: a value of ours or an error of ours."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from providers.base import OfferQuery
from providers.errors import ProviderError
from providers.runpod import mapping, offers
from tests.fakes.clock import START
from tests.fuzz import sense
from tests.fuzz.nonsense import examples, junk, mutated, rows
from tests.providers.runpod import wire

Json = dict[str, Any]

POD = wire.pod(ssh={"proxy": None, "direct": wire.DIRECT}, runtime={"uptime": 30, "ports": []})
GPU: Json = {
    "id": "NVIDIA GeForce RTX 4090",
    "displayName": "RTX 4090",
    "memory": 24,
    "memoryInGb": 24,
    "secure": True,
    "secureCloud": True,
    "price": {"secure": 0.69, "community": 0.34},
    "securePrice": 0.69,
    "maxCount": {"secure": 8, "community": 8},
    "maxGpuCountSecureCloud": 8,
    "availability": "HIGH",
    "dataCenters": [{"id": "EU-RO-1", "availability": "HIGH"}],
    "lowestPrice": {"uninterruptablePrice": 0.69, "stockStatus": "High", "minVcpu": 16, "minMemory": 62},
}
CPU: Json = {
    "id": "cpu3c",
    "name": "Compute-Optimized",
    "price": {"securePerVcpu": 0.03},
    "ramGbPerVcpu": 2,
    "vcpu": {"min": 2, "max": 32},
    "availability": "HIGH",
    "dataCenters": ["EU-RO-1"],
}
RECORD: Json = {
    "podId": "p1",
    "startTime": "2026-11-21 12:00:00 +0000 UTC",
    "endTime": "2026-11-21T13:00:00Z",
    "gpuAmount": 0.69,
    "cpuAmount": 0,
    "diskAmount": 0.003,
}
ONE = OfferQuery(gpu_count=1, gpus=("RTX4090",), disk_gb=20.0, regions=("EU-RO-1",))
ANY = OfferQuery(gpu_count=1)


@given(rows(POD))
@example({**POD, "id": None})
@example({**POD, "cost": 1e300})
@example({**POD, "cost": -1})
@example({**POD, "disk": "9" * 5000})
@example({**POD, "createdAt": "0001-01-01T00:00:00+14:00"})
@example({**POD, "env": {**POD["env"], "GPUJOB_DEADLINE": "9" * 30, "GPUJOB_ATTEMPT": "9" * 5000}})
@example({**POD, "ssh": {"direct": {**wire.DIRECT, "username": "-oProxyCommand=x"}}})
@example({**POD, "ssh": {"direct": {**wire.DIRECT, "port": 99999}}})
@examples(400)
def test_a_pod_is_shown_or_said_to_be_unreadable(pod: Json) -> None:
    mapping.is_over(pod), mapping.lacks_address(pod), mapping.stage(pod)
    try:
        owner = mapping.owner_of(pod)
        found = mapping.instance(pod, now=START)
    except ProviderError as error:
        return sense.error(error)
    sense.instance(found)
    assert found.owner == owner
    return None


@given(mutated([GPU]), st.sampled_from(("SECURE", "COMMUNITY")))
@example([{**GPU, "price": {"secure": 1e25}}], "SECURE")
@example([{**GPU, "price": {"secure": float("nan")}}], "SECURE")
@example([{**GPU, "price": {"secure": -0.69}}], "SECURE")
@example([{**GPU, "maxCount": {"secure": float("inf")}}], "SECURE")
@example([{**GPU, "memory": 10**400}], "SECURE")
@example([{**GPU, "dataCenters": 7}], "SECURE")
@example([None, 7, "x"], "SECURE")
@examples(400)
def test_one_bad_type_hides_no_good_one(listed: Any, cloud: str) -> None:
    listed = [*listed, {**GPU, "id": "NVIDIA L4"}] if isinstance(listed, list) else [{**GPU, "id": "NVIDIA L4"}]
    hardware = offers.hardware_of(listed)
    for query in (ONE, ANY):
        found = [
            *offers.catalog_offers(listed, query, cloud=cloud, hardware=hardware, at=START),
            *offers.public_offers(listed, query, cloud="SECURE", at=START),
        ]
        for one in found:
            sense.offer(one)
            offers.Choice.of(one.offer_id)
        assert "NVIDIA L4" in {offers.Choice.of(one.offer_id).id for one in found}


@given(mutated([CPU]))
@example([{**CPU, "ramGbPerVcpu": 1e-300}])
@example([{**CPU, "vcpu": {"min": 1e300, "max": float("inf")}}])
@examples(300)
def test_one_bad_flavor_hides_no_good_one(listed: Any) -> None:
    listed = [*listed, {**CPU, "id": "good"}] if isinstance(listed, list) else [{**CPU, "id": "good"}]
    found = list(offers.cpu_offers(listed, OfferQuery(vcpus=4, memory_gb=8), at=START))
    for one in found:
        sense.offer(one)
    assert "good" in {offers.Choice.of(one.offer_id).id for one in found}


@given(rows({"id": "reg1", "name": "gpujob-r-abc123-1-1.alice.gpujob"}))
@example({"id": "reg1", "name": f"gpujob-r-{'9' * 5000}-1.alice.gpujob"})
@example({"id": "reg1", "name": "gpujob-r-٣-1.alice.gpujob"})
@examples(150)
def test_a_login_is_a_leftover_or_none_of_ours(row: Json) -> None:
    if (found := mapping.leftover(row, now=START)) is not None:
        sense.instance(found)


@given(mutated([RECORD]))
@example([{**RECORD, "gpuAmount": float("nan")}])
@example([{**RECORD, "endTime": "0001-01-01T00:00:00+14:00"}])
@examples(300)
def test_a_bill_is_one_or_is_said_to_be_unreadable(records: Any) -> None:
    machine = mapping.instance(POD, now=START)
    mine = [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []
    try:
        for charge in mapping.charges(mine, machine, since=START, gone=True, now=START):
            sense.charge(charge)
    except ProviderError as error:
        sense.error(error)


@given(junk)
@examples(200)
def test_money_is_never_nonsense(value: Any) -> None:
    usd = offers.money(value)
    assert usd.is_finite() and usd >= 0
