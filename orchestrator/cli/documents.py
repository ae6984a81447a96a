"""What --json prints, as docs/json.md describes it. Fields are only ever added; nothing here is for the eye.

Money is a decimal string, times are ISO 8601 in UTC, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jobs import metrics
from orchestrator import costs, ledger, outlook
from orchestrator.records import Attempt, ChargeRow, Run
from orchestrator.results import entries

if TYPE_CHECKING:
    from jobs.metrics import Point
    from orchestrator.budgets import Account
    from orchestrator.cli.session import Session
    from orchestrator.clouds import Checked
    from orchestrator.outlook import Outlook
    from orchestrator.placement import Ranked
    from orchestrator.price_series import Paid, Series
    from orchestrator.reaper import Found
    from orchestrator.reports.price_chart import History
    from orchestrator.store.rows import FiringRow, ScheduleRow, Told
    from orchestrator.submission import Plan
    from orchestrator.together import Together

Json = dict[str, Any]


def show_document(session: Session, run: Run) -> Json:
    """Everything about one run."""
    from orchestrator import spending  # brings SQLAlchemy, of which a list of prices has no use

    folder = session.home.run(run.id)
    attempts = session.store.attempts(run.id)
    charges = spending.charges(session.store, run, attempts)
    return {
        **run_document(run, attempts, ledger.total(charges), now=session.store.now()),
        "cancel_requested_at": utc_text(run.cancel_requested_at),
        "artifacts_complete": run.artifacts_complete,
        "labels": run.spec.get("labels", {}),
        "schedule": _mark(run),
        "attempts": [_attempt(attempt, charges) for attempt in attempts],
        "metrics": metrics.last(folder.metrics),
        "artifacts": [artifact_document(entry) for entry in entries(folder)],
        "folder": str(folder.root),
        "report": str(folder.report) if folder.report.exists() else None,
    }


def run_document(run: Run, attempts: Sequence[Attempt], spent: Decimal, *, now: datetime) -> Json:
    """A run in a list."""
    newest = attempts[-1] if attempts else None
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "owner": run.owner,
        "phase": run.phase.value,
        "phase_since": utc_text(run.phase_since),
        "outcome": run.outcome.value if run.outcome else None,
        "exit_code": run.exit_code,
        "error": run.error,
        "provider": newest.provider if newest else None,
        "gpu": newest.offer.get("gpu") if newest else None,
        "gpu_count": newest.offer.get("gpu_count") if newest else None,
        "usd_per_hour": _money(ledger.usd_per_hour(newest)) if newest else None,
        "cost_usd": _money(spent),
        **_outlook(None if run.is_over else outlook.of(newest, spent, now)),
        "possibly_billing": run.possibly_billing,
        "created_at": utc_text(run.created_at),
        "started_at": utc_text(run.started_at),
        "ended_at": utc_text(run.ended_at),
    }


def _outlook(seen: Outlook | None) -> Json:
    return {
        "expected_end_at": utc_text(seen.ends_at) if seen else None,
        "expected_cost_usd": _money(seen.usd) if seen and seen.usd is not None else None,
        "expected_rests_on": seen.rests_on if seen else None,
    }


def charge_document(charge: ChargeRow) -> Json:
    """A line of the ledger."""
    return {
        "run_id": charge.run_id,
        "attempt": charge.attempt,
        "provider": charge.provider,
        "meter": charge.meter,
        "quantity": _money(charge.quantity),
        "unit": charge.unit,
        "rate_usd": _money(charge.rate_usd),
        "amount_usd": _money(charge.amount_usd),
        "source": charge.source,
        "kind": charge.kind.value,
        "start": utc_text(charge.start),
        "end": utc_text(charge.end),
    }


def metrics_document(measured: Mapping[str, Sequence[Point]]) -> Json:
    """Every point of every metric."""
    return {name: [_point(point) for point in points] for name, points in measured.items()}


def group_document(titles: Sequence[str], group: Sequence[str], amount: Decimal) -> Json:
    """One line of `cost --by`."""
    return {**_group(titles, group), "amount_usd": _money(amount)}


def per_document(titles: Sequence[str], group: Sequence[str], amount: Decimal, metric: str, value: float) -> Json:
    """One line of `cost --per`."""
    each = costs.per(amount, value)
    return {
        **group_document(titles, group, amount),
        "metric": metric,
        "value": value,
        "usd_per": None if each is None else _money(each),
    }


def budget_document(account: Account) -> Json:
    """A budget and where it stands this month. Of an address only the host or the service: the rest may be a secret."""
    budget = account.budget
    return {
        "project": budget.project or None,
        "month": account.month,
        "monthly_usd": _money(budget.monthly_usd),
        "soft_usd": None if budget.soft_usd is None else _money(budget.soft_usd),
        "spent_usd": _money(account.spent),
        "worst_usd": _money(account.worst),
        "left_usd": _money(account.left),
        "live_machines": account.live,
        **told_document(budget),
    }


def told_document(row: Told) -> Json:
    """Who is told."""
    from orchestrator import services
    from orchestrator.notices import place

    return {
        "webhook": place(row.webhook) if row.webhook else None,
        "apprise": services.place(row.apprise) if row.apprise else None,
        "command": list(row.command) if row.command else None,
    }


def schedule_document(schedule: ScheduleRow, spent: Decimal, last: Json | None) -> Json:
    """A schedule in a list. `last` is what became of its last time."""
    return {
        "id": schedule.id,
        "name": schedule.name,
        "state": schedule_state(schedule),
        "file": schedule.file,
        "overrides": schedule.overrides,
        "frozen": schedule.frozen is not None,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "missed": schedule.missed.value,
        "overlap": schedule.overlap.value,
        "jitter_seconds": schedule.jitter_seconds,
        "monthly_usd": None if schedule.monthly_usd is None else _money(schedule.monthly_usd),
        "spent_usd": _money(spent),
        "host": schedule.host,
        "added_at": utc_text(schedule.added_at),
        "paused_at": utc_text(schedule.paused_at),
        "planned_at": utc_text(schedule.planned_at),
        "waiting_at": utc_text(schedule.waiting_at),
        **told_document(schedule),
        "last": last,
    }


def schedule_state(schedule: ScheduleRow) -> str:
    """active, waiting, paused or over."""
    if schedule.paused_at is not None:
        return "paused"
    if schedule.waiting_at is not None:
        return "waiting"
    return "over" if schedule.planned_at is None else "active"


def firing_document(firing: FiringRow, made: Together) -> Json:
    """What became of one time of a schedule."""
    return {
        "planned_at": utc_text(firing.planned_at),
        "at": utc_text(firing.at),
        "kind": firing.kind.value,
        "run_id": firing.run_id,
        "sweep_id": firing.sweep_id,
        "text": firing.text,
        "runs": len(made.runs),
        "over": len(made.over),
        "did_not_succeed": len(made.failed),
        "cost_usd": _money(made.usd) if made.runs else None,
    }


def coming_document(planned_at: datetime, due_at: datetime) -> Json:
    """A time of a schedule that is still to come."""
    return {"planned_at": utc_text(planned_at), "due_at": utc_text(due_at)}


def artifact_document(entry: Any) -> Json:
    """A file that came back."""
    return {"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256}


def offer_document(ranked: Ranked, *, now: datetime) -> Json:
    """Something that could be rented now, or, when it is stale, could be when its cloud last answered."""
    from orchestrator.prices import usd_per_tflop_hour

    offer = ranked.offer
    return {
        "provider": offer.provider,
        "region": offer.region,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count,
        "gpu_memory_gb": offer.gpu_memory_gb,
        "vcpus": offer.vcpus,
        "memory_gb": offer.memory_gb,
        "spot": offer.spot,
        "usd_per_hour": _money(offer.usd_per_hour),
        "usd_per_gpu_hour": _quotient(offer.usd_per_gpu_hour),
        "disk_usd_per_gb_month": _money(offer.disk_usd_per_gb_month),
        "egress_usd_per_gb": _money(offer.egress_usd_per_gb),
        "reliability": offer.reliability,
        "total_usd": _quotient(ranked.total_usd),
        "fetched_at": utc_text(offer.fetched_at),
        "offer_id": offer.offer_id,
        "location": offer.location,
        "cuda": offer.cuda,
        "disk_gb": offer.disk_gb,
        "ingress_usd_per_gb": _money(offer.ingress_usd_per_gb),
        "other_usd_per_hour": _money(offer.other_usd_per_hour),
        "usd_per_tflop_hour": _quotient(usd_per_tflop_hour(offer)),
        "usd_per_work": _quotient(ranked.usd_per_work),
        "source": offer.source,
        "age_seconds": max(0, round((now - offer.fetched_at).total_seconds())),
        "stale": ranked.is_stale,
        "simulated": ranked.is_simulated,
    }


def appeared_document(ranked: Ranked, *, now: datetime, under: Decimal) -> Json:
    """A line of `prices --watch`."""
    return {"at": utc_text(now), "under_usd_per_hour": _money(under), **offer_document(ranked, now=now)}


def history_document(history: History) -> Json:
    """What `prices --history` found."""
    return {
        "gpu": history.gpu,
        "gpu_count": history.gpu_count,
        "since": utc_text(history.since),
        "until": utc_text(history.until),
        "series": [_series(one, history.until) for one in history.series],
        "paid": [_paid(one) for one in history.paid],
    }


def plan_document(plan: Plan, *, now: datetime) -> Json:
    """What `submit --dry-run` found."""
    from orchestrator.cli.estimate_documents import estimate_document

    ranking = plan.ranking
    first = ranking.eligible[0] if ranking.eligible else None
    estimate = first.estimate if first else None
    return {
        "name": plan.spec.name,
        "expected_usd": _quotient(first.total_usd if first else None),
        "expected_seconds": estimate.seconds if estimate else None,
        "rests_on": estimate.rests_on if estimate else None,
        "worst_case_usd": _money(plan.worst_case_usd),
        "max_cost_usd": _money(plan.spec.limits.max_cost),
        "max_duration_seconds": plan.spec.limits.max_duration.total_seconds(),
        "offers": [
            {**offer_document(ranked, now=now), **estimate_document(ranked.estimate), "why_not": ranked.why_not}
            for ranked in ranking.offers
        ],
        "unavailable": {name: str(error) for name, error in ranking.unavailable.items()},
        "passed_over": dict(ranking.passed_over),
    }


def check_document(checked: Checked) -> Json:
    """Whether a cloud can be used."""
    return {
        "provider": checked.provider,
        "usable": checked.check.usable,
        "simulated": checked.simulated,
        "problems": list(checked.check.problems),
        "notes": list(checked.check.notes),
    }


def found_document(found: Found, action: str) -> Json:
    """A machine that `reap` found, and what it did with it: left, ending or ended."""
    instance = found.instance
    return {
        "provider": instance.provider,
        "machine": instance.name,
        "instance_id": instance.id,
        "run_id": instance.run_id,
        "verdict": found.verdict.value,
        "action": action,
        "why": found.why,
        "usd_per_hour": None if instance.usd_per_hour is None else _money(instance.usd_per_hour),
        "created_at": utc_text(instance.created_at),
        "deadline": utc_text(instance.deadline),
    }


def _mark(run: Run) -> Json | None:
    """Which schedule, and which of its times, a run is for."""
    mark = run.notes.get("schedule")
    return mark and {**mark, "planned_at": utc_text(datetime.fromisoformat(mark["planned_at"]))}


def _point(point: Point) -> Json:
    return {"step": point.step, "time": point.time, "value": point.value, "attempt": point.attempt}


def _attempt(attempt: Attempt, charges: Sequence[ChargeRow]) -> Json:
    return {
        "number": attempt.number,
        "provider": attempt.provider,
        "machine": attempt.machine,
        "instance_id": attempt.instance_id,
        "offer": attempt.offer,
        "usd_per_hour": _money(ledger.usd_per_hour(attempt)),
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "error": attempt.error,
        "created_at": utc_text(attempt.created_at),
        "started_at": utc_text(attempt.started_at),
        "exited_at": utc_text(attempt.exited_at),
        "gone_at": utc_text(attempt.gone_at),
        "cost_usd": _money(ledger.total(charge for charge in charges if charge.attempt == attempt.number)),
    }


def _group(titles: Sequence[str], group: Sequence[str]) -> Json:
    """What was summed up by. What a run or an attempt does not have is null; a project is always a string."""
    named: Json = {}
    for title, word in zip(titles, group, strict=True):
        if title.startswith(costs.LABEL):
            named.setdefault("labels", {})[title.removeprefix(costs.LABEL)] = word or None
        elif title == "attempt":
            named[title] = int(word)
        else:
            named[title] = (word or None) if title == "gpu" else word
    return named


def _series(series: Series, until: datetime) -> Json:
    now = series.now(until)
    return {
        "provider": series.provider,
        "spot": series.spot,
        "simulated": series.is_simulated,
        "now_usd_per_hour": None if now is None else _money(now),
        "least_usd_per_hour": _money(series.least),
        "median_usd_per_hour": _money(series.median(until)),
        "most_usd_per_hour": _money(series.most),
        "heard_at": utc_text(series.heard_at),
        "points": [
            {"at": utc_text(step.at), "usd_per_hour": None if step.usd_per_hour is None else _money(step.usd_per_hour)}
            for step in series.steps
        ],
    }


def _paid(paid: Paid) -> Json:
    return {
        "run_id": paid.run_id,
        "attempt": paid.attempt,
        "provider": paid.provider,
        "region": paid.region,
        "spot": paid.spot,
        "simulated": paid.is_simulated,
        "at": utc_text(paid.at),
        "usd_per_hour": _money(paid.usd_per_hour),
    }


def _money(amount: Decimal) -> str:
    return ledger.plain(amount)


def _quotient(amount: Decimal | None) -> str | None:
    """What was divided has digits without end: a trillionth of a dollar is exact enough."""
    return None if amount is None else _money(round(amount, 12))


def utc_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
