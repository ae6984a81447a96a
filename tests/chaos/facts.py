"""What is known at the end of a round: what the clouds say, what gpujob says, and what came back. Records only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from orchestrator.records import Attempt, Run
from providers.rehearsal.faults import Fault


@dataclass(frozen=True, kw_only=True)
class MachineFact:
    """A machine by its cloud's own word and bill: when the last of its meters began, and the first one stopped."""

    cloud: str
    id: str
    name: str
    status: str
    alive: bool
    created_at: datetime
    ended_at: datetime | None
    usd: Decimal
    usd_per_hour: Decimal
    billed_from: datetime | None
    billed_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A round that is over, or whose time is up.

    runs and attempts are all of the round's home, the run itself first; charges are the lines of `gpujob cost --json`;
    logs by attempt and artifacts by path are the bytes that came back. A command's exit code is None where it was not
    called.
    """

    run: Run
    attempts: Sequence[Attempt]
    strays: Sequence[Run] = ()
    stray_attempts: Sequence[Attempt] = ()
    machines: Sequence[MachineFact] = ()
    alive_before_reaping: Sequence[str] = ()
    leftovers: Sequence[str] = ()
    charges: Sequence[Mapping[str, Any]] = ()
    logs: Mapping[int, bytes] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    wait_code: int | None = None
    reap_code: int | None = None
    struck: Sequence[Fault] = ()
    errors: Sequence[str] = ()  # of gpujob itself: events of that kind, tracebacks in the controller's log
