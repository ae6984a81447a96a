"""What clouds ask for machines by now, where they change a rate while a machine runs: asked, and kept with the meters.

Knows no phase and books nothing: what a meter with several rates comes to is the ledger's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from orchestrator import ledger
from orchestrator.records import Attempt, Json
from orchestrator.world import offer_from_json
from providers.base import Meter, Provider, Rate

ASK_EVERY = timedelta(minutes=10)  # of a machine that lives


def may_move(attempt: Attempt) -> bool:
    """Whether a rate of the attempt's machine may be another than when it was rented."""
    known_offer = bool(attempt.offer.get("offer_id"))  # a machine that was found has none
    return known_offer and attempt.running_from is not None and any(row.get("moves") for row in attempt.meters)


def newest(provider: Provider, attempt: Attempt) -> list[Json]:
    """The attempt's meters with every rate until now, also of times in which nobody asked. Raises ProviderError."""
    assert attempt.running_from is not None, "a machine that never ran has run nothing up"
    told = provider.rates(offer_from_json(attempt.offer), attempt.running_from)
    meters = ledger.meters_from_json(attempt.meters)
    return ledger.meters_to_json(_changed(meter, told.get(meter.name, ())) for meter in meters)


def _changed(meter: Meter, told: Sequence[Rate]) -> Meter:
    """What is told counts from its first moment on; what was known of the time before stays."""
    if not meter.moves or not told:
        return meter
    before = tuple(rate for rate in meter.changes if rate.since < told[0].since)
    return replace(meter, changes=(*before, *told))
