"""The rule by which a spot machine's rate moves. Pure: knows no SDK and asks nobody.

What is paid is the price in effect at the beginning of each instance-hour, as AWS announced in November 2017 under the
title "Amazon EC2 Spot Introduces New Pricing Model"; its newer guide says no more than the price "that's in effect".
docs/clouds.md has both links (2026-11-21). An hour is one of the machine's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from providers.base import Rate

SOURCE = "EC2 spot price history"
_HOUR = timedelta(hours=1)

History = Sequence[tuple[datetime, Decimal]]  # from when on which price, oldest first


def rates(history: History, since: datetime, until: datetime) -> list[Rate]:
    """What an hour costs a machine that began to run at `since`; nothing for hours before the first known price."""
    found: list[Rate] = []
    begins = since
    while begins <= until:
        price = next((usd for at, usd in reversed(history) if at <= begins), None)
        if price is not None and (not found or found[-1].usd_per_unit != price):
            found.append(Rate(since=begins, usd_per_unit=price, source=SOURCE))
        begins += _HOUR
    return found
