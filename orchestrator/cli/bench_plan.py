"""gpujob bench run --dry-run: which machines a suite would get now, and what it costs at most. Rents nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

from jobs.spec import Spec
from orchestrator import ledger, submission
from orchestrator.benchmarks.sweeps import Ready
from orchestrator.cli import exit_codes
from orchestrator.cli.output import data, data_json, layout, say
from orchestrator.cli.session import Session
from orchestrator.records import Json
from orchestrator.reports import words
from orchestrator.reports.table import Cell, Column, Table
from orchestrator.submission import Plan


def show_plan(session: Session, ready: Ready, *, as_json: bool) -> int:
    """The best offer for each job as it is now. Jobs that want the same are asked for once."""
    plans: dict[str, Plan] = {}
    rows: list[Json] = []
    for cell, job in ready.jobs:
        what = _what(job.spec)
        if what not in plans:
            plans[what] = submission.plan(job.spec, store=session.store, home=session.home, env=session.env)
        wanted = {"gpu_wanted": cell.gpu, "provider_wanted": cell.provider or None}
        rows.append({"task": cell.task, "target": cell.target, **wanted, **_found(job.spec, plans[what])})
    if as_json:
        data_json({"suite": ready.suite.name, "most_usd": ledger.plain(ready.most_usd), "runs": rows})
    else:
        _print(rows)
        most = words.money(ready.most_usd)
        say(f"{ready.suite.name}  {words.plural(len(rows), 'run')}, at most {most} in all. Nothing was rented.")
    return exit_codes.DONE if all(row["provider"] for row in rows) else exit_codes.NOTHING_TO_RENT


def _what(spec: Spec) -> str:
    """All of a job that decides where it may run; the same text is the same question."""
    asked = spec.to_json()
    return json.dumps([asked["place"], asked["resources"], asked["limits"]["max_price_per_hour"]], sort_keys=True)


def _found(spec: Spec, plan: Plan) -> Json:
    ranked = plan.ranking.eligible[0] if plan.ranking.eligible else None
    best = ranked.offer if ranked else None
    reasons = [f"{name}: {why}" for name, why in plan.ranking.passed_over.items()]
    reasons += [f"{name}: {error}" for name, error in plan.ranking.unavailable.items()]
    reasons += [f"{one.offer.provider}: {one.why_not}" for one in plan.ranking.offers[:1] if one.why_not]
    return {
        "provider": best.provider if best else None,
        "simulated": ranked.is_simulated if ranked else None,
        "region": best.region if best else None,
        "gpu": best.gpu if best else None,
        "gpu_count": best.gpu_count if best else None,
        "vcpus": best.vcpus if best else None,
        "spot": best.spot if best else None,
        "usd_per_hour": ledger.plain(best.usd_per_hour) if best else None,
        "max_cost_usd": ledger.plain(spec.limits.max_cost),
        "why_not": None if best else "; ".join(reasons) or "no offer fits",
    }


def _print(rows: Sequence[Json]) -> None:
    """A line for the jobs of a target that would get the same machine."""
    alike: dict[str, list[Json]] = {}
    for row in rows:
        key = json.dumps({name: value for name, value in row.items() if name not in ("task", "max_cost_usd")})
        alike.setdefault(key, []).append(row)
    titles = (Column("TARGET"), Column("WANTED"), Column("RUNS", right=True), Column("MACHINE", wraps=True))
    columns = [*titles, Column("PRICE", right=True), Column("AT MOST", right=True)]
    data(Table(columns, [_line(group) for group in alike.values()]).text(**layout()))


def _line(group: Sequence[Json]) -> Sequence[Cell | str]:
    first = group[0]
    wanted = " ".join(part for part in (first["gpu_wanted"], first["provider_wanted"]) if part)
    most = words.money(sum((Decimal(row["max_cost_usd"]) for row in group), Decimal(0)))
    if first["provider"] is None:
        machine, price = Cell(words.one_line(first["why_not"]), "warn"), "-"
    else:
        simulated = " (simulated)" if first["simulated"] else ""
        region = f" {first['region']}" if first["region"] not in ("", first["provider"]) else ""
        machine = Cell(words.one_line(f"{first['provider']}{simulated}{region}, {words.hardware(first)}"))
        price = words.rate(Decimal(first["usd_per_hour"])) + (" spot" if first["spot"] else "")
    return first["target"], wanted, str(len(group)), machine, price, most
