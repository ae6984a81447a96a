"""Money, time, sizes and states as a person reads them; the same in tables, summaries and reports. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jobs.reported import without_escapes
from orchestrator.records import Attempt, AttemptOutcome, Outcome, Run

if TYPE_CHECKING:
    from orchestrator.outlook import Outlook

_SMALL = Decimal("0.01")
_LEAST = Decimal("0.0001")


def money(usd: Decimal) -> str:
    """$1,234.50; small amounts with as many digits as they need, so that something is never shown as nothing."""
    sign, amount = ("-" if usd < 0 else ""), abs(usd)
    if amount == 0:
        return "$0.00"
    if amount < _LEAST:
        return f"{sign}<$0.0001"
    return f"{sign}${amount:,.4f}" if amount < _SMALL else f"{sign}${amount:,.2f}"


def exact(usd: Decimal) -> str:
    """$0.1031: to a hundredth of a cent, for a bill whose lines must add up."""
    return f"{'-' if usd < 0 else ''}${abs(usd):,.4f}"


def fine(usd: Decimal | None) -> str:
    """$0.00001234: four digits that say something, however small it is; "-" for nothing that can be said."""
    if usd is None:
        return "-"
    places = max(2, 3 - usd.adjusted()) if usd else 2
    return f"{'-' if usd < 0 else ''}${abs(usd):,.{min(places, 30)}f}"


def rate(usd: Decimal, unit: str = "h") -> str:
    """$0.34/h: a price, with up to six decimals where it has them."""
    digits = f"{usd:,.6f}".rstrip("0")
    whole, _, decimals = digits.partition(".")
    return f"${whole}.{decimals.ljust(2, '0')}/{unit}"


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3m 05s, 2h 07m, 3d 04h."""
    if not math.isfinite(seconds) or seconds < 0:
        return "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def ago(then: datetime, now: datetime) -> str:
    """just now, 12 s ago, 3m ago, 2h ago, 5d ago."""
    seconds = (now - then).total_seconds()
    if seconds < 2:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit} ago"
    return f"{int(seconds)} s ago"


def moment(at: datetime) -> str:
    """2026-11-21 00:41:05 UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(count: float) -> str:
    """12 B, 3.4 kB, 1.2 GB: decimal, as clouds sell it."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.{0 if count >= 99.95 else 1}f} {unit}"
    return f"{count / 1000:.1f} PB"


def number(value: float) -> str:
    """A measured value to four significant digits; whole numbers whole."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) < 1e7 and (value == int(value) or abs(value) >= 1000):
        return f"{value if value == int(value) else float(f'{value:.4g}'):,.0f}"
    return f"{value:.4g}"


def quantity(value: Decimal) -> str:
    """An amount of a meter's unit, without a tail of zeros."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def outcome(how: Outcome | AttemptOutcome) -> str:
    """timed out, host lost."""
    return how.value.replace("_", " ")


def state(run: Run) -> str:
    """The outcome, else what is happening."""
    if run.outcome is not None:
        return outcome(run.outcome)
    return f"{run.phase.value} (cancelling)" if run.cancel_requested_at else run.phase.value


def state_of_all(runs: Sequence[Run]) -> str:
    """Of runs that belong together: how many are over, and then how many did not succeed."""
    over = [run for run in runs if run.is_over]
    if len(over) < len(runs):
        return f"{len(over)} of {len(runs)} are over"
    failed = [run for run in over if run.outcome is not Outcome.SUCCEEDED]
    return f"{len(failed)} of {len(runs)} did not succeed" if failed else "succeeded"


def hardware(offer: Mapping[str, Any]) -> str:
    """2x RTX4090, or 8 CPUs."""
    count = int(offer.get("gpu_count") or 0)
    if count:
        return f"{count}x {one_line(offer.get('gpu') or 'GPU')}"
    return plural(int(float(offer.get("vcpus") or 0)), "CPU") if offer.get("vcpus") else "CPU"


def resources(asked: Mapping[str, Any]) -> str:
    """RTX4090 or RTX3090, at least 4 CPUs, 16.0 GB memory, 40.0 GB disk: the spec's resources."""
    choices = asked.get("gpu") or ()
    parts = [" or ".join(_gpu_choice(choice) for choice in choices if isinstance(choice, dict)) or "no GPU"]
    if asked.get("cpus"):
        parts.append(f"at least {plural(int(asked['cpus']), 'CPU')}")
    parts += [f"{size(float(asked[name]))} {name}" for name in ("memory", "disk") if asked.get(name)]
    return ", ".join(parts)


def outlook(seen: Outlook, now: datetime) -> str:
    """about $0.60 when it is done in 12m 05s."""
    if seen.ends_at is None or seen.usd is None:
        return "longer than expected"
    return f"about {money(seen.usd)} when it is done in {duration((seen.ends_at - now).total_seconds())}"


def limits(given: Mapping[str, Any]) -> str:
    """$5.00 in all, 2h 00m, $0.80/h: the spec's limits."""
    parts = []
    if given.get("max_cost") is not None:
        parts.append(f"{money(Decimal(str(given['max_cost'])))} in all")
    if isinstance(given.get("max_duration"), (int, float)):
        parts.append(duration(given["max_duration"]))
    if given.get("max_price_per_hour") is not None:
        parts.append(rate(Decimal(str(given["max_price_per_hour"]))))
    return ", ".join(parts)


def is_simulated(attempt: Attempt) -> bool:
    """Whether the provider, the offer or the machine itself says that it is a simulation."""
    facts = attempt.facts or {}
    gpus = facts.get("gpus") if isinstance(facts, dict) else None
    names = [gpu.get("name", "") for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    said = (attempt.provider, attempt.offer.get("gpu"), attempt.offer.get("source"), *names)
    return any("simulat" in str(word).lower() for word in said)


def provider(attempt: Attempt) -> str:
    """The provider's name; a simulated one never passes for a real one."""
    if is_simulated(attempt) and "simulat" not in attempt.provider.lower():
        return f"{attempt.provider} (simulated)"
    return attempt.provider


def place(attempt: Attempt) -> str:
    """The provider, and which of its regions or hosts it was."""
    region = one_line(attempt.offer.get("region") or "")
    return provider(attempt) if region in ("", attempt.provider) else f"{provider(attempt)} {region}"


def one_line(text: str) -> str:
    """What a machine or a user wrote, as one line that cannot command a terminal."""
    plain = without_escapes(str(text))
    return "".join(character if character.isprintable() else " " for character in plain).strip()


def _gpu_choice(choice: Mapping[str, Any]) -> str:
    count = int(choice.get("count") or 1)
    memory = f" with {size(float(choice['memory']))}" if choice.get("memory") else ""
    return f"{count}x {choice.get('name') or 'any GPU'}{memory}"
