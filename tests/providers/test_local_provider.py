"""What this computer offers, what it costs, and who gets its GPUs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base import LaunchRequest, LocalAccess, OfferQuery, Settings
from providers.errors import BadHost, NoCapacity, Rejected
from providers.local.provider import LocalGpu, LocalProvider, gpus_of, price_per_hour
from tests.fakes.clock import FakeClock

TWO_KINDS = (LocalGpu(0, "RTX4090", 25.8), LocalGpu(1, "RTX4090", 25.8), LocalGpu(2, "T4", 16.1))


def local(home: Path, *gpus: LocalGpu) -> LocalProvider:
    return LocalProvider(Settings(home=home, env={}, now=FakeClock()), detect=lambda env: gpus)


def request(name: str) -> LaunchRequest:
    deadline = datetime(2026, 11, 22, tzinfo=UTC)
    return LaunchRequest(name=name, owner="alice", run_id="r-1", attempt=1, deadline=deadline, disk_gb=1)


def wanted(*gpus: str, count: int = 1) -> OfferQuery:
    return OfferQuery(gpus=gpus, gpu_count=count)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("", "0"),
        ("[local]\n", "0"),
        ('[local]\nprice_per_hour = "0.35"\n', "0.35"),
        ("[local]\nprice_per_hour = 0.35\n", "0.35"),
        ("[local]\nprice_per_hour = 2\n", "2"),
        ('[other]\nkey = "of somebody else"\n', "0"),
    ],
)
def test_price_as_the_user_wrote_it(tmp_path: Path, text: str, price: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    assert price_per_hour(tmp_path) == Decimal(price)


def test_without_a_config_it_costs_nothing(tmp_path: Path) -> None:
    assert price_per_hour(tmp_path) == Decimal(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[local]\nprice_per_hour = "cheap"\n',
            'local: price_per_hour: must be US dollars, such as "0.25", not "cheap"',
        ),
        ("[local]\nprice_per_hour = -1\n", 'local: price_per_hour: must be US dollars, such as "0.25", not -1'),
        ("[local]\nprice_per_hour = true\n", 'local: price_per_hour: must be US dollars, such as "0.25", not true'),
        ("[local]\nprice_per_hour = nan\n", 'local: price_per_hour: must be US dollars, such as "0.25", not NaN'),
        ("[local]\nprice_per_hour = [1]\n", 'local: price_per_hour: must be US dollars, such as "0.25", not [1]'),
        ('[local]\nprice = "1"\n', "local: price: unknown key; did you mean price_per_hour?"),
        ('local = "free"\n', 'local: must be a table of keys, not "free"'),
        ("[local]\nprice_per_hour\n", "not TOML: Expected '=' after a key in a key/value pair (at line 2, column 15)"),
    ],
)
def test_a_bad_price_is_refused_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(Rejected) as caught:
        local(tmp_path).offers(OfferQuery())
    assert str(caught.value) == f"{tmp_path}/config.toml: {message}"


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        ("0, NVIDIA GeForce RTX 4090, 24564\n", [LocalGpu(0, "RTX4090", 24564 * 2**20 / 10**9)]),
        (
            "0, Tesla T4, 15360\n1, Tesla T4, 15360\n",
            [LocalGpu(0, "T4", 15360 * 2**20 / 10**9), LocalGpu(1, "T4", 15360 * 2**20 / 10**9)],
        ),
        ("0, NVIDIA Quantum 9000, [N/A]\n", [LocalGpu(0, "NVIDIA Quantum 9000", None)]),
        ("No devices were found\n", []),
        ("", []),
    ],
)
def test_what_nvidia_smi_lists(listing: str, found: list[LocalGpu]) -> None:
    assert gpus_of(listing) == found


def test_a_job_without_gpu_is_offered_the_computer_without_gpu(tmp_path: Path) -> None:
    [offer] = local(tmp_path, *TWO_KINDS).offers(OfferQuery(vcpus=1))
    assert (offer.gpu, offer.gpu_count) == (None, 0)


def test_each_kind_of_gpu_is_an_offer_with_as_many_as_are_wanted(tmp_path: Path) -> None:
    provider = local(tmp_path, *TWO_KINDS)
    assert [(o.gpu, o.gpu_count) for o in provider.offers(wanted())] == [("RTX4090", 1), ("T4", 1)]
    assert [(o.gpu, o.gpu_count) for o in provider.offers(wanted("RTX4090", count=2))] == [("RTX4090", 2)]
    assert provider.offers(wanted("T4", count=2)) == ()
    assert provider.offers(OfferQuery(gpu_count=1, gpu_memory_gb=80)) == ()


def test_gpus_in_use_are_not_offered_and_not_given_twice(tmp_path: Path) -> None:
    provider = local(tmp_path, *TWO_KINDS)
    [both] = provider.offers(wanted("RTX4090", count=2))
    [one] = provider.offers(wanted("RTX4090"))
    provider.create(one, request("first"))
    with pytest.raises(NoCapacity, match="1 of its GPUs are free, 2 wanted"):
        provider.create(both, request("second"))
    provider.create(one, request("third"))
    assert provider.offers(wanted("RTX4090")) == ()
    assert [offer.gpu for offer in provider.offers(wanted())] == ["T4"]


def test_a_machine_sees_its_own_gpus_only(tmp_path: Path) -> None:
    provider = local(tmp_path, *TWO_KINDS)
    [one] = provider.offers(wanted("RTX4090"))
    [none] = provider.offers(OfferQuery())
    made = [provider.create(offer, request(f"m-{number}")) for number, offer in enumerate([one, one, none])]
    seen = [access.env.get("CUDA_VISIBLE_DEVICES") for m in made if isinstance(access := m.access, LocalAccess)]
    assert seen == ["0", "1", ""]


def test_on_a_computer_without_gpu_only_the_mark_is_set(tmp_path: Path) -> None:
    provider = local(tmp_path)
    made = provider.create(provider.offers(OfferQuery())[0], request("m-1"))
    assert made.access == LocalAccess(directory=f"{tmp_path}/machines/m-1", env={"GPUJOB_MACHINE": "m-1"})


def test_the_price_is_frozen_when_a_machine_is_made(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[local]\nprice_per_hour = "1"\n')
    provider = local(tmp_path)
    provider.create(provider.offers(OfferQuery())[0], request("m-1"))
    config.write_text('[local]\nprice_per_hour = "9"\n')
    assert provider.get("m-1").usd_per_hour == Decimal(1)
    assert provider.offers(OfferQuery())[0].usd_per_hour == Decimal(9)


def test_a_folder_that_cannot_be_written_is_a_bad_host(tmp_path: Path) -> None:
    (tmp_path / "machines").write_text("a file where the folder should be")
    provider = local(tmp_path)
    with pytest.raises(BadHost, match="machines"):
        provider.create(provider.offers(OfferQuery())[0], request("m-1"))


@pytest.mark.parametrize("name", ["../m", "a/b", "", ".", "A", "a" * 64, "-a", "a\n"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    provider = local(tmp_path)
    with pytest.raises(Rejected, match="is not a machine's name"):
        provider.create(provider.offers(OfferQuery())[0], request(name))
    with pytest.raises(Rejected, match="is not a machine's name"):
        provider.terminate(name)
    assert not (tmp_path / "machines").exists()


def test_a_bill_in_the_middle_of_a_second_is_rounded_up(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[local]\nprice_per_hour = "3600"\n')
    clock = FakeClock()
    provider = LocalProvider(Settings(home=tmp_path, env={}, now=clock), detect=lambda env: ())
    made = provider.create(provider.offers(OfferQuery())[0], request("m-1"))
    clock.advance(10.2)
    [charge] = provider.charges(made, made.created_at)
    assert (charge.usd, charge.final) == (Decimal(11), False)
    clock.advance(-60)
    [charge] = provider.charges(made, made.created_at - timedelta(hours=1))
    assert charge.usd == Decimal(0), "a clock that was put back makes no negative bill"
