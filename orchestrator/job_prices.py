"""What could be rented now for one job: its resources, its time on each machine, its traffic. Rents nothing.

Asks for what a run of the job would ask for. The order among its GPUs does not count here: time and money do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import past_runs, placement, submission
from orchestrator.estimates import EXPECTED_HOURS, Estimates, Speeds, no_speeds
from orchestrator.home import Home
from orchestrator.placement import Ranked
from providers.base import GB, Offer, OfferQuery, Provider, Traits

if TYPE_CHECKING:
    from jobs.spec import Spec
    from orchestrator.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What stands in for what is known of the job. None and empty: as its file, its files and its earlier runs say."""

    gpus: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    spot: bool | None = None
    env: Mapping[str, str] | None = None
    hours: Decimal | None = None  # what is assumed where nothing is known
    disk_gb: Decimal | None = None
    egress_gb: Decimal | None = None
    ingress_gb: Decimal | None = None


class JobAsked:
    """A question about a job (`prices.Asked`)."""

    def __init__(self, spec: Spec, expected: Estimates, *, ingress_gb: Decimal, egress_gb: Decimal | None) -> None:
        self.name = spec.name
        self.providers = spec.place.providers
        self.queries: tuple[OfferQuery, ...] = placement.queries(spec)
        self.own_queries = self.queries
        self._spec, self._expected = spec, expected
        self._ingress_gb, self._egress_gb = ingress_gb, egress_gb

    def has(self, _offer: Offer, _query: OfferQuery) -> bool:
        """A run takes whatever its query is answered with."""
        return True

    def why_not_there(self, provider: Provider) -> str | None:
        return placement.why_not_there(self._spec, provider)

    def ranked(self, offer: Offer, traits: Traits | None) -> Ranked:
        return placement.for_job(
            offer,
            traits,
            self._expected,
            disk_gb=Decimal(self._spec.resources.disk) / GB,
            ingress_gb=self._ingress_gb,
            egress_gb=self._egress_gb,
        )


def ask_for(
    source: Path | Mapping[str, Any],
    changes: Changes,
    *,
    store: Store,
    home: Home,
    env: Mapping[str, str],
    speeds: Speeds = no_speeds,
) -> JobAsked:
    """The question about a job; asks nobody anything. Raises SpecError, SubmissionError.

    Its secrets need not be at hand: nothing is run.
    """
    prepared = submission.prepare(source, home=home, env=env, overrides=_overrides(changes), for_later=True)
    spec, ingress = prepared.spec, changes.ingress_gb
    hours = EXPECTED_HOURS if changes.hours is None else changes.hours
    return JobAsked(
        spec,
        past_runs.estimates(store, spec, expected_hours=hours, speeds=speeds),
        ingress_gb=Decimal(prepared.bundle.bytes) / GB if ingress is None else ingress,
        egress_gb=changes.egress_gb,
    )


def _overrides(changes: Changes) -> dict[str, object]:
    """By dotted key, as `submission.prepare` takes them."""
    found: dict[str, object] = {f"env.{name}": value for name, value in (changes.env or {}).items()}
    if changes.gpus:
        found["resources.gpu"] = _one_or_several(changes.gpus)
    if changes.providers:
        found["place.providers"] = list(changes.providers)
    if changes.regions:
        found["place.regions"] = list(changes.regions)
    if changes.spot is not None:
        found["place.spot"] = "only" if changes.spot else "never"
    if changes.disk_gb is not None:
        found["resources.disk"] = f"{changes.disk_gb:f}GB"
    return found


def _one_or_several(gpus: Sequence[str]) -> str | list[str]:
    return gpus[0] if len(gpus) == 1 else list(gpus)
