"""What a rented container itself says of whose it is: variables, for clouds that keep a name and nothing else. Pure.

Owns the variables' names and what is written into them. How a cloud gives them back is its own mapping's business.
"""

from __future__ import annotations

from providers.base import LaunchRequest, Offer

OWNER, RUN, ATTEMPT, DEADLINE = "GPUJOB_OWNER", "GPUJOB_RUN", "GPUJOB_ATTEMPT", "GPUJOB_DEADLINE"
RATE = "GPUJOB_USD_PER_HOUR"


def of(offer: Offer, request: LaunchRequest) -> dict[str, str]:
    """The deadline in whole seconds since 1970; the rate as it was offered."""
    return {
        OWNER: request.owner,
        RUN: request.run_id,
        ATTEMPT: str(request.attempt),
        DEADLINE: str(int(request.deadline.timestamp())),
        RATE: f"{offer.usd_per_hour:f}",
    }
