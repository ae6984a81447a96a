"""What a simulated cloud is told to do wrong. Faults are data, used up in order; without one all goes well.

Knows no cloud: each cloud says which of its calls a fault strikes, and web.py or the cloud does what it says.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

CALLS = ("offers", "create", "get", "list", "terminate", "charges", "other")

# Struck by web.py, on any call:
ON_THE_WIRE = {
    "outage": "for `seconds`, or for `times` calls when they are 0, every call is answered by a dropped connection, or "
    "with `status`",
    "throttled": "too many requests; `seconds` is the Retry-After, none is sent when it is 0",
    "error": "a 5xx (`status`) instead of an answer; nothing was done",
    "lost_reply": "it is done, and the connection drops",
    "error_after": "it is done, and a 5xx (`status`) is answered",
    "slow": "the answer takes `seconds` of real time longer",
}
# Struck by the cloud when it makes or ends a machine:
ON_MACHINES = {
    "no_capacity": "create: there is none",
    "offer_gone": "create: somebody else has rented it",
    "no_funds": "create: the account is empty",
    "quota": "create: the account may not rent so much (aws, vast)",
    "slow_boot": "create: the machine takes `seconds` to come up",
    "stuck_boot": "create: it never comes up, and bills",
    "failed_boot": "create: the cloud gives up on it after `seconds`",
    "no_gpu": "create: the machine has no GPU",
    "wrong_gpu": "create: the machine has another GPU",
    "preempt": "create: taken away after `seconds`; a notice comes `notice` seconds before, where the cloud has one",
    "host_dies": "create: after `seconds` it stands still and is unreachable, for `lasts` seconds or for ever; the "
    "cloud still says that it runs, and notices `notice` seconds later, or never when that is 0",
    "network_cut": "create: after `seconds` nobody can log in for `lasts` seconds or for ever, open connections fall "
    "silent, what runs there runs on, and the cloud notices nothing",
    "terminate_ignored": "terminate: acknowledged, and nothing happens; a later one works",
    "terminate_acknowledged": "terminate: acknowledged; it goes on to run and to bill for `seconds` more",
    "list_lag": "list: for `seconds` after its create a machine is not shown",
}
_STRIKES = {kind: text.partition(":")[0] for kind, text in ON_MACHINES.items()}  # the one call of each
_LEAST = {"times": 1, "skip": 0, "status": 0}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong. `on` names the call that it strikes: `skip` go by, then `times` are struck."""

    kind: str
    on: str = ""  # one of CALLS; "" for any call (on the wire), or the one that the kind says (on machines)
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    notice: float = 0.0
    lasts: float = 0.0  # 0: for ever
    status: int = 0  # 0: the cloud's usual one

    def __post_init__(self) -> None:
        if self.kind not in ON_THE_WIRE and self.kind not in ON_MACHINES:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join([*ON_THE_WIRE, *ON_MACHINES])}")
        if self.on and self.on not in CALLS:
            raise ValueError(f"no call {self.on!r}; there are {', '.join(CALLS)}")
        if self.on and self.on != _STRIKES.get(self.kind, self.on):
            raise ValueError(f"{self.kind} strikes {_STRIKES[self.kind]}, never {self.on}")
        for name in ("seconds", "notice", "lasts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{name} is a number of at least 0, not {value!r}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}, not {value!r}")
        if self.status and not 400 <= self.status <= 599:
            raise ValueError(f"status is from 400 to 599, not {self.status}")

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Fault:
        """Raises ValueError for a key or a word that does not exist."""
        known = {field.name for field in fields(cls)}
        if wrong := sorted(set(row) - known):
            raise ValueError(f"a fault has no {wrong[0]!r}; it has {', '.join(sorted(known))}")
        if "kind" not in row:
            raise ValueError(f"a fault needs a kind: {', '.join([*ON_THE_WIRE, *ON_MACHINES])}")
        return cls(**row)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Faults:
    """The faults that are still to come, and those that have struck. Safe between threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._waiting: list[Fault] = list(faults)
        self.struck: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._waiting += faults

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[Fault]:
        with self._lock:
            return list(self._waiting)

    def take(self, call: str, *kinds: str) -> Fault | None:
        """The first waiting fault of these kinds that strikes this call, one time of it used up."""
        with self._lock:
            found = self._go_by(call, kinds)
            if not found:
                return None
            index, fault = found[0]
            if fault.times > 1:
                self._waiting[index] = replace(fault, times=fault.times - 1)
            else:
                del self._waiting[index]
            self.struck.append(fault)
            return fault

    def spare(self, call: str, *kinds: str) -> None:
        """Such a call was made, and there was nothing that these kinds could have spoiled: none is used up."""
        with self._lock:
            self._go_by(call, kinds)

    def _go_by(self, call: str, kinds: tuple[str, ...]) -> list[tuple[int, Fault]]:
        """Those whose turn it is. Every other one of these kinds has let one more call go by, whoever strikes it."""
        due = []
        for index, fault in enumerate(self._waiting):
            if fault.kind not in kinds or fault.on not in ("", call):
                continue
            if fault.skip > 0:
                self._waiting[index] = replace(fault, skip=fault.skip - 1)
            else:
                due.append((index, fault))
        return due
