"""The last offers that each cloud made, kept for the day on which it does not answer. One file per cloud.

Each offer keeps the time at which it was heard, so that nobody takes it for one of now. A simulated cloud has a file of
its own: its prices are nobody's. Nothing here is worth an error: a file that is damaged or cannot be written is as good
as none.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from orchestrator.home import Home
from providers.base import Offer, OfferQuery

KEPT = timedelta(days=7)
MOST_OFFERS = 5000  # of one cloud, the newest
_FORMAT = 1
_LARGEST = 50_000_000  # bytes unpacked; what is larger was not written by us
_QUICK = 1  # gzip's level: a list that is written at every look must not be waited for

_NAMES = tuple(field.name for field in fields(Offer))
_MONEY = tuple(index for index, name in enumerate(_NAMES) if "usd" in name)
_OFFER_ID = _NAMES.index("offer_id")
_FETCHED_AT = _NAMES.index("fetched_at")


class KnownPrices:
    """What was heard of clouds, below a home's cache."""

    def __init__(self, home: Home) -> None:
        self._folder = home.root / "cache" / "prices"

    def recall(self, provider: str, query: OfferQuery, *, now: datetime, is_simulated: bool) -> list[Offer]:
        """The offers of this cloud, as last heard, that answer the query."""
        known = self._read(provider, is_simulated=is_simulated, now=now)
        return [offer for offer in known if offer.unfit(query) is None]

    def keep(
        self,
        provider: str,
        queries: Sequence[OfferQuery],
        offers: Iterable[Offer],
        *,
        now: datetime,
        is_simulated: bool,
    ) -> None:
        """What a cloud has just answered to these queries. What would have been an answer and is none is gone.

        Of more GPUs than were asked for that holds only when the cloud lists such machines, too: many offer just what
        is asked for.
        """
        live = {offer.offer_id: offer for offer in offers}
        sizes = {query.gpu_count for query in queries} | {offer.gpu_count for offer in live.values()}
        others = [
            offer
            for offer in self._read(provider, is_simulated=is_simulated, now=now, but=live)
            if not (offer.gpu_count in sizes and _answers(offer, queries))
        ]
        newest = sorted(others, key=lambda offer: offer.fetched_at, reverse=True)
        self._write(self._path(provider, is_simulated), [*live.values(), *newest][:MOST_OFFERS])

    def _path(self, provider: str, is_simulated: bool) -> Path:
        return self._folder / f"{provider}{'.simulated' if is_simulated else ''}.json.gz"

    def _read(self, provider: str, *, is_simulated: bool, now: datetime, but: Container[str] = ()) -> list[Offer]:
        try:
            with gzip.open(self._path(provider, is_simulated)) as file:
                content = json.loads(file.read(_LARGEST))
            if content["format"] != _FORMAT or content["fields"] != list(_NAMES):
                return []
            known = [_offer(row) for row in content["offers"] if row[_OFFER_ID] not in but]
        except (OSError, EOFError, ValueError, TypeError, LookupError, InvalidOperation, zlib.error):
            return []
        return [offer for offer in known if offer.provider == provider and now - offer.fetched_at <= KEPT]

    def _write(self, path: Path, offers: Sequence[Offer]) -> None:
        content = {"format": _FORMAT, "fields": _NAMES, "offers": [[*vars(offer).values()] for offer in offers]}
        text = json.dumps(content, default=str, separators=(",", ":"))
        half_written = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            half_written.write_bytes(gzip.compress(text.encode(), _QUICK))
            half_written.replace(path)
        except OSError:
            with suppress(OSError):
                half_written.unlink(missing_ok=True)


def _answers(offer: Offer, queries: Sequence[OfferQuery]) -> bool:
    return any(offer.unfit(query) is None for query in queries)


def _offer(row: list[Any]) -> Offer:
    for index in _MONEY:
        row[index] = None if row[index] is None else Decimal(row[index])
    row[_FETCHED_AT] = datetime.fromisoformat(row[_FETCHED_AT])
    return Offer(**dict(zip(_NAMES, row, strict=True)))
