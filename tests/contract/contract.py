"""The one suite that every provider passes. A subclass brings fixtures; what a cloud does differently is said there.

    provider      the provider under test
    offer_query   a query that fits at least one offer, with room for three machines at a time
    advance       advance(seconds): time passes for the cloud (a moved clock, or a real wait)

Every machine that a test makes is terminated at its end.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.base import Instance, InstanceStatus, LaunchRequest, Offer, OfferQuery, Provider
from providers.errors import NotFound, ProviderError

Advance = Callable[[float], None]

OWNER = "contract-alice"
ROUNDING = Decimal("0.000001")
_numbers = itertools.count(1)


@dataclass
class Tenant:
    """Somebody who rents machines and remembers which."""

    provider: Provider
    offer: Offer
    advance: Advance
    rented: list[Instance] = field(default_factory=list)

    def request(self, *, name: str | None = None, owner: str = OWNER) -> LaunchRequest:
        number = next(_numbers)
        return LaunchRequest(
            name=name or f"contract-{os.getpid()}-{number}",
            owner=owner,
            run_id=f"r-{number}",
            attempt=2,
            deadline=datetime.now(UTC) + timedelta(hours=1),
            disk_gb=1.0,
        )

    def rent(self, request: LaunchRequest | None = None) -> Instance:
        instance = self.provider.create(self.offer, request or self.request())
        self.rented.append(instance)
        return instance

    def running(self, instance: Instance) -> Instance:
        """The machine once it runs."""
        for _ in range(120):
            if (seen := self.provider.get(instance.id)).status is InstanceStatus.RUNNING:
                return seen
            self.advance(5)
        raise AssertionError(f"never ran: {seen}")

    def end(self, instance: Instance) -> None:
        """Terminate, again when nothing comes of it, until the cloud says that it is gone."""
        for _ in range(60):
            self.provider.terminate(instance.id)
            if self.is_gone(instance):
                return
            self.advance(5)
        raise AssertionError(f"never went: {self.provider.get(instance.id)}")

    def is_gone(self, instance: Instance) -> bool:
        try:
            self.provider.get(instance.id)
        except NotFound:
            return True
        return False

    def names(self, owner: str = OWNER) -> set[str]:
        return {machine.name for machine in self.provider.list(owner)}


class ProviderContract:
    """Tests of what the orchestrator relies on, whatever the cloud."""

    clock_slack = timedelta(seconds=2)  # between the cloud's clock and what is asked of it
    charges_are_exact = True  # the cloud bills per machine and second, and says so at once
    names_are_remembered = True  # the cloud knows the name of a machine that is gone

    @pytest.fixture
    def another(self) -> Provider | None:
        """The same cloud with the key of another account; None where there are no accounts."""
        return None

    @pytest.fixture
    def tenant(self, provider: Provider, offer_query: OfferQuery, advance: Advance) -> Iterator[Tenant]:
        offer = provider.offers(offer_query).cheapest()
        assert offer is not None, "the query must fit an offer"
        tenant = Tenant(provider, offer, advance)
        yield tenant
        for instance in tenant.rented:
            tenant.end(instance)

    def test_offers_are_priced_and_say_where_from_and_when(self, provider: Provider, offer_query: OfferQuery) -> None:
        offers = provider.offers(offer_query)
        assert offers
        for offer in offers:
            assert offer.provider == provider.name
            assert isinstance(offer.usd_per_hour, Decimal) and offer.usd_per_hour >= 0
            assert offer.fetched_at.utcoffset() is not None
            assert offer.source and offer.offer_id and offer.region

    def test_offer_ids_are_unique(self, provider: Provider, offer_query: OfferQuery) -> None:
        ids = [offer.offer_id for offer in provider.offers(offer_query)]
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize(
        "wish",
        [
            {"vcpus": 1e6},
            {"gpu_count": 1000},
            {"gpu_count": 1, "gpus": ("GPU-of-nobody",)},
            {"regions": ("nowhere",)},
            {"spot": True, "max_usd_per_hour": Decimal(-1)},
        ],
        ids="-".join,
    )
    def test_what_does_not_fit_is_not_offered(
        self, provider: Provider, offer_query: OfferQuery, wish: dict[str, object]
    ) -> None:
        assert provider.offers(replace(offer_query, **wish)) == ()  # type: ignore[arg-type]

    def test_a_machine_knows_whose_it_is(self, tenant: Tenant) -> None:
        request = tenant.request()
        made = tenant.rent(request)
        for seen in (made, tenant.provider.get(made.id)):
            assert (seen.id, seen.name, seen.provider) == (made.id, request.name, tenant.provider.name)
            assert (seen.owner, seen.run_id, seen.attempt) == (request.owner, request.run_id, request.attempt)

    def test_a_machine_keeps_its_deadline_and_its_rate(self, tenant: Tenant) -> None:
        request = tenant.request()
        made = tenant.rent(request)
        for seen in (made, tenant.provider.get(made.id)):
            assert seen.deadline is not None and abs(seen.deadline - request.deadline) < timedelta(seconds=1)
            assert seen.usd_per_hour == tenant.offer.usd_per_hour
            assert [meter.usd_per_hour for meter in seen.meters if meter.name == "compute"] == [seen.usd_per_hour]
            assert seen.created_at.utcoffset() == timedelta(0)

    def test_a_machine_that_runs_can_be_reached(self, tenant: Tenant) -> None:
        seen = tenant.running(tenant.rent())
        assert seen.access is not None
        assert seen.access.env.get("GPUJOB_MACHINE") == seen.name

    def test_the_same_name_twice_is_one_machine(self, tenant: Tenant) -> None:
        request = tenant.request()
        first, second = tenant.rent(request), tenant.rent(request)
        assert first.id == second.id
        assert [machine.name for machine in tenant.provider.list(OWNER)].count(request.name) == 1

    def test_a_machine_is_found_by_its_name(self, tenant: Tenant) -> None:
        first, second = tenant.rent(), tenant.rent()
        for made in (first, second):
            found = tenant.provider.find(made.name, tenant.offer)
            assert found is not None and (found.id, found.name) == (made.id, made.name)
        assert tenant.provider.find(f"{first.name}-never", tenant.offer) is None
        tenant.end(first)
        assert tenant.provider.find(first.name, tenant.offer) is None

    def test_every_machine_has_meters_that_come_to_its_rate(self, tenant: Tenant) -> None:
        made = tenant.rent()
        names = [meter.name for meter in made.meters]
        assert "compute" in names and len(set(names)) == len(names)
        assert all(meter.source and meter.unit for meter in made.meters)

    def test_a_check_makes_nothing(self, tenant: Tenant) -> None:
        before = tenant.names()
        assert tenant.provider.unusable() is None
        assert tenant.provider.check().problems == ()
        assert tenant.names() == before

    def test_list_shows_all_machines_of_the_owner_and_no_others(self, tenant: Tenant) -> None:
        mine = {tenant.rent().name for _ in range(2)}
        theirs = tenant.rent(tenant.request(owner="contract-bob")).name
        assert mine <= tenant.names() and theirs not in tenant.names()
        assert theirs in tenant.names("contract-bob")
        assert tenant.names("contract-nobody") == set()

    def test_list_shows_a_machine_as_get_does(self, tenant: Tenant) -> None:
        made = tenant.rent()
        [listed] = [machine for machine in tenant.provider.list(OWNER) if machine.name == made.name]
        seen = tenant.provider.get(made.id)
        assert (listed.id, listed.run_id, listed.attempt) == (seen.id, seen.run_id, seen.attempt)
        assert (listed.created_at, listed.usd_per_hour) == (seen.created_at, seen.usd_per_hour)

    def test_who_asks_is_said_shortly_and_always_alike(self, provider: Provider) -> None:
        account = provider.account()
        assert account == provider.account() and len(account) < 80
        assert account.isascii() and account.isprintable() and " " not in account

    def test_another_account_shows_nothing_and_says_that_it_is_another(
        self, tenant: Tenant, another: Provider | None
    ) -> None:
        """Why "not found" alone ends nothing: another account says it of a machine that lives and bills."""
        if another is None:
            return
        made = tenant.rent()
        assert another.list(OWNER) == [] and another.find(made.name, tenant.offer) is None
        with pytest.raises(NotFound):
            another.get(made.id)
        another.terminate(made.id)
        assert not tenant.is_gone(made)
        assert another.charges(made, made.created_at) == ()
        assert "" not in (tenant.provider.account(), another.account())
        assert another.account() != tenant.provider.account()

    def test_after_terminate_a_machine_is_gone(self, tenant: Tenant) -> None:
        kept, ended = tenant.rent(), tenant.rent()
        tenant.end(ended)
        assert ended.name not in tenant.names()
        assert not tenant.is_gone(kept), "only the machine that was named ends"

    def test_terminate_twice_and_of_what_is_gone_is_no_error(self, tenant: Tenant) -> None:
        made = tenant.rent()
        tenant.provider.terminate(made.id)
        tenant.provider.terminate(made.id)
        tenant.end(made)
        tenant.provider.terminate(made.id)
        assert tenant.is_gone(made)

    def test_an_unknown_id_is_not_found(self, tenant: Tenant) -> None:
        unknown = self.unknown_id(tenant.rent())
        with pytest.raises(NotFound) as caught:
            tenant.provider.get(unknown)
        assert caught.value.provider == tenant.provider.name
        tenant.provider.terminate(unknown)

    def test_a_name_that_was_ended_is_never_a_second_machine(self, tenant: Tenant) -> None:
        if not self.names_are_remembered:
            return
        request = tenant.request()
        tenant.end(tenant.rent(request))
        with pytest.raises(ProviderError) as caught:
            tenant.provider.create(tenant.offer, request)
        assert caught.value.provider == tenant.provider.name
        assert request.name not in tenant.names()

    def test_what_was_billed_is_the_rate_times_the_time(self, tenant: Tenant) -> None:
        made = tenant.rent()
        tenant.advance(90)
        made = tenant.provider.get(made.id)
        tenant.end(made)
        charges = tenant.provider.charges(made, made.created_at)
        if not self.charges_are_exact:
            return
        [charge] = [charge for charge in charges if charge.meter == "compute"]
        assert charge.final and charge.source
        assert abs(charge.start - made.created_at) <= self.clock_slack
        assert charge.end - charge.start >= timedelta(seconds=90)
        assert charge.usd_per_unit == tenant.offer.usd_per_hour
        seconds = Decimal(str((charge.end - charge.start).total_seconds()))
        assert -ROUNDING <= charge.quantity * 3600 - seconds < 1 + ROUNDING, "rounded up to a second"
        assert abs(charge.usd - charge.quantity * charge.usd_per_unit) < ROUNDING

    def test_what_is_billed_while_it_runs_is_not_final(self, tenant: Tenant) -> None:
        made = tenant.rent()
        tenant.advance(90)
        charges = tenant.provider.charges(made, made.created_at)
        assert not any(charge.final for charge in charges)
        if self.charges_are_exact:
            [charge] = [charge for charge in charges if charge.meter == "compute"]
            assert charge.usd >= tenant.offer.usd_per_hour * 90 / 3600
            assert tenant.provider.charges(made, charge.end + timedelta(hours=1)) == ()

    def unknown_id(self, made: Instance) -> str:
        """An id of the same form as this machine's, of a machine that never was."""
        return made.id.replace(made.name, f"{made.name}-never")
