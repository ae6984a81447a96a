"""The account: who may do what, SSH keys, and what is left of its money. Knows no wire format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from providers.rehearsal.bill import Bill
from providers.rehearsal.vast.refused import Refused, refused

USER_ID = 104_729
API_KEY = "rehearsal-vast-key"
OTHER_USER_ID, OTHER_KEY = 224_737, "rehearsal-vast-somebody-else"


@dataclass(frozen=True)
class SshKey:
    id: int
    text: str
    created_at: datetime


@dataclass(frozen=True)
class TopUp:
    """Money that was paid in."""

    id: int
    usd: Decimal
    at: datetime


@dataclass(frozen=True)
class Caller:
    """Who asks: the account itself, or the container of one instance."""

    instance_id: int | None = None

    def may_act_on(self, instance_id: int) -> bool:
        return self.instance_id in (None, instance_id)


class Account:
    """One user's account."""

    def __init__(
        self, bill: Bill, clock: Callable[[], datetime], *, credit: Decimal, id: int = USER_ID, key: str = API_KEY
    ) -> None:
        self.id = id
        self._key = key
        self._bill = bill
        self._clock = clock
        self._next_key = 501_300
        self.ssh_keys: dict[int, SshKey] = {}
        self.top_ups: list[TopUp] = []
        self.top_up(credit)

    @property
    def credit(self) -> Decimal:
        """What is left; below zero it is owed."""
        return sum((paid.usd for paid in self.top_ups), Decimal(0)) - self._bill.total()

    def top_up(self, usd: Decimal) -> None:
        self.top_ups.append(TopUp(7_700_001 + len(self.top_ups), usd, self._clock()))

    def add_key(self, text: str) -> SshKey:
        self._next_key += 1
        key = SshKey(self._next_key, text, self._clock())
        self.ssh_keys[key.id] = key
        return key

    def caller(self, key: str | None, instance_keys: Iterable[tuple[str, int]], unknown_status: int) -> Caller:
        """Who that key belongs to. Raises Refused."""
        if not key:
            raise refused(403, "auth_error", "This action requires login.")
        if key == self._key:
            return Caller()
        for known, instance_id in instance_keys:
            if key == known:
                return Caller(instance_id)
        raise refused(unknown_status, "auth_error", "Invalid user key")


def instance_key(seed: int, instance_id: int) -> str:
    """64 hexadecimal digits, as the real ones; the same for the same instance of the same rehearsal."""
    return hashlib.sha256(f"rehearsal {seed} {instance_id}".encode()).hexdigest()


def not_yours() -> Refused:
    return refused(403, "auth_error", "This key is not permitted to do that.")
