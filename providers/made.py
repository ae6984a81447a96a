"""Creates at clouds that know no idempotency: the names that were made, a price above the most, and whether it is gone.

Owns what is looked at again after a create or an end, and what follows from it. Knows no cloud and asks nobody: the
asking is given.
"""

from __future__ import annotations

from collections.abc import Callable

from providers.base import Instance, LaunchRequest
from providers.errors import Ambiguous, NotFound, OfferGone, ProviderError, Rejected, Throttled, Unreachable


class MadeNames:
    """What this process has made, by name: the cloud's list may lag behind a create."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def add(self, name: str, instance_id: str) -> None:
        self._ids[name] = instance_id

    def refuse_another(self, name: str, *, provider: str) -> None:
        """For a name that the cloud does not show (any more). Raises Rejected if it was made: one name, one machine."""
        if name in self._ids:
            raise Rejected(f"{name} was made and has been ended", provider=provider)

    def find(self, name: str, get: Callable[[str], Instance]) -> Instance | None:
        """The machine of that name by its own GET."""
        if (instance_id := self._ids.get(name)) is None:
            return None
        try:
            return get(instance_id)
        except NotFound:
            return None


def affordable(
    made: Instance, request: LaunchRequest, *, cloud: str, end: Callable[[], object], look: Callable[[], object]
) -> Instance:
    """What it costs is known only now. OfferGone says that nothing is left: so it is looked whether that is so.

    `cloud` is its name in sentences; `end` and `look` ask it to end the machine, and for the machine.
    """
    rate, most = made.usd_per_hour, request.max_usd_per_hour
    if rate is None or most is None or rate <= most:
        return made
    text = f"{cloud} made {made.id} at ${rate} per hour, above ${most}"
    try:
        end()
        look()
    except NotFound:
        raise OfferGone(f"{text}; it was ended", provider=made.provider) from None
    except ProviderError as error:
        text = f"{text}; whether it was ended is not known: {error}"
    raise Ambiguous(text, created_id=made.id, provider=made.provider)


def is_gone(look: Callable[[], object]) -> bool:
    """Whether the cloud says so; while nothing can be asked it does not."""
    try:
        look()
    except NotFound:
        return True
    except (Throttled, Unreachable):
        return False
    return False
