"""What the attempt's machine costs by now, where its cloud changes the rate while it runs: asked seldom, and said.

Ends nothing: a budget that is used up sooner does, and a cloud that was told the most that may be paid.
"""

from __future__ import annotations

from datetime import datetime

from orchestrator import ledger, rates
from orchestrator.phases.visit import Visit
from orchestrator.reports import words


def follow(visit: Visit) -> None:
    """Ask now and then while the machine runs."""
    asked_at = visit.current.notes.get("rates_at")
    if asked_at is None or visit.now - datetime.fromisoformat(asked_at) >= rates.ASK_EVERY:
        ask(visit)


def ask(visit: Visit) -> None:
    """Note every rate until now. A cloud that does not say it is asked later: until then the last known one counts."""
    attempt = visit.current
    if not rates.may_move(attempt):
        return
    visit.remember(rates_at=visit.now.isoformat())
    before = ledger.usd_per_hour(attempt)
    try:
        attempt.meters = rates.newest(visit.provider, attempt)
    except Exception as error:  # also a bug of the provider: the job goes on
        if attempt.notes.get("rates_unknown") is None:
            visit.remember(rates_unknown=True)
            visit.note("warning", f"{attempt.provider} does not say what the machine costs by now: {error}")
        return
    attempt.notes.pop("rates_unknown", None)
    _say(visit, before=words.rate(before))


def _say(visit: Visit, *, before: str) -> None:
    usd, cap = ledger.usd_per_hour(visit.current), visit.spec.limits.max_price_per_hour
    now = words.rate(usd)
    if now == before:
        return
    text = f"{visit.current.provider} asks {now} for the machine, {before} before"
    if cap is not None and usd > cap:
        visit.note("warning", f"{text}: above limits.max_price_per_hour, so the cloud is to take it back")
    else:
        visit.note("machine", text, usd_per_hour=ledger.plain(usd))
