"""report.html: everything about one run in one file that needs no network, no script and no server.

Owns what is on the page and its order. Reads the run's folder and changes nothing in it; only `write_report` puts the
page there. Whatever a job, a machine or a user wrote goes through `_safe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.reported import without_escapes
from orchestrator import ledger
from orchestrator.home import Home, RunFolder
from orchestrator.records import Attempt, ChargeRow, Event, Phase, Run
from orchestrator.reports import figures, timeline, words
from orchestrator.reports.bill import BillLine, bill, total
from orchestrator.reports.page import page
from orchestrator.reports.page import safe as _safe
from orchestrator.reports.svg import Block, bar
from orchestrator.reports.text import ArtifactLine, status

if TYPE_CHECKING:
    from orchestrator.store.store import Store

MOST_ARTIFACTS = 200
MOST_EVENTS = 300
LOG_LINES = 100
_LOG_BYTES = 256 * 1024
_LONGEST_LOG_LINE = 2000
_KINDS: Mapping[Phase, str] = {
    Phase.WATCH: "work",
    Phase.COLLECT: "end",
    Phase.TEARDOWN: "end",
    Phase.SETTLE: "end",
}


def write_report(store: Store, home: Home, run_id: str, *, now: datetime) -> Path:
    """Render a run's report from the store and its folder, and put it there whole."""
    from jobs.artifacts import read_manifest

    folder = home.run(run_id)
    page = render(
        store.run(run_id),
        store.attempts(run_id),
        store.events(run_id),
        store.charges(run_id=run_id),
        folder=folder,
        artifacts=read_manifest(folder.manifest),
        now=now,
    )
    folder.root.mkdir(parents=True, exist_ok=True)
    new = folder.report.with_name(folder.report.name + ".new")
    new.write_text(page, encoding="utf-8")
    new.replace(folder.report)
    return folder.report


def render(
    run: Run,
    attempts: Sequence[Attempt],
    events: Sequence[Event],
    charges: Sequence[ChargeRow],
    *,
    folder: RunFolder,
    artifacts: Sequence[ArtifactLine],
    now: datetime,
) -> str:
    """The page. `now` stands in for the end of a run that is not over."""
    telemetry = {attempt.number: folder.attempt(attempt.number).telemetry for attempt in attempts}
    logs = [folder.attempt(attempt.number).log for attempt in attempts]
    body = [
        _header(run, attempts),
        _alerts(run, figures.hints(telemetry)),
        _key_figures(run, attempts, charges, now=now),
        _section("Metrics", _cards(figures.metric_cards(folder.metrics))),
        _section("Timeline", _timeline(run, attempts, events, charges, now=now)),
        _section("Machine", _cards(figures.machine_cards(telemetry))),
        _section("Artifacts", _artifacts(run, artifacts)),
        _section("Cost", _cost(charges)),
        _section("What ran", _what_ran(run.spec, attempts)),
        _section("Events", _events(events)),
        _section("End of the log", _log(logs)),
        f"<footer>gpujob · run {_safe(run.id)} · written {words.moment(now)}</footer>",
    ]
    return page(f"{run.name}: {words.state(run)}", body)


def _header(run: Run, attempts: Sequence[Attempt]) -> str:
    cell = status(run)
    badges = [f'<span class="badge {cell.tone}">{_safe(cell.text)}</span>']
    if any(words.is_simulated(attempt) for attempt in attempts):
        badges.append('<span class="badge warn">simulated</span>')
    labels = run.spec.get("labels")
    told = [f"{key}={value}" for key, value in labels.items()] if isinstance(labels, dict) else []
    sub = " · ".join([run.id, f"project {run.project}", f"submitted {words.moment(run.created_at)}", *told])
    return (
        f'<header><div class="line"><h1>{_safe(run.name)}</h1>{"".join(badges)}</div>'
        f'<div class="sub">{_safe(sub)}</div></header>'
    )


def _alerts(run: Run, hints: Iterable[str]) -> str:
    alerts = []
    if run.possibly_billing:
        alerts.append(
            '<p class="alert"><strong>Possibly still billing.</strong> A machine of this run may still exist and cost '
            "money: its cloud could not be asked.</p>"
        )
    if run.error:
        alerts.append(
            f'<p class="alert"><strong>{_safe(words.state(run)).capitalize()}.</strong> {_safe(run.error)}</p>'
        )
    alerts += [f'<p class="alert warn"><strong>Look at this.</strong> {_safe(hint)}</p>' for hint in hints]
    return "".join(alerts)


def _key_figures(run: Run, attempts: Sequence[Attempt], charges: Sequence[ChargeRow], *, now: datetime) -> str:
    took = ((run.ended_at or now) - run.created_at).total_seconds()
    ran = _run_seconds(attempts)
    newest = attempts[-1] if attempts else None
    shown = [
        (
            "Took" if run.ended_at else "So far",
            words.duration(took),
            f"{words.duration(ran)} in the job" if ran else "",
        ),
        ("Cost", words.money(total(charges)), f"at {words.rate(ledger.usd_per_hour(newest))}" if newest else ""),
        ("Ran on", words.hardware(newest.offer) if newest else "nothing yet", words.provider(newest) if newest else ""),
        ("Attempts", str(len(attempts)), ""),
    ]
    if run.exit_code is not None:
        shown.append(("Exit code", str(run.exit_code), ""))
    items = (
        f"<div><dt>{name}</dt><dd>{_safe(value)}{f'<small>{_safe(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in shown
    )
    return f'<dl class="figures">{"".join(items)}</dl>'


def _run_seconds(attempts: Iterable[Attempt]) -> float:
    told = [attempt.exit.get("run_seconds") for attempt in attempts if isinstance(attempt.exit, dict)]
    return sum(float(seconds) for seconds in told if isinstance(seconds, (int, float)))


def _timeline(
    run: Run, attempts: Sequence[Attempt], events: Sequence[Event], charges: Sequence[ChargeRow], *, now: datetime
) -> str:
    spans = timeline.spans(events, until=run.ended_at or now)
    if not spans:
        return ""
    start = min(span.start for span in spans)
    seconds = max((span.end - start).total_seconds() for span in spans)
    known = {attempt.number: attempt for attempt in attempts}
    parts = []
    for number, phases in timeline.by_phase(spans).items():
        of_attempt = [span for span in spans if span.attempt == number]
        blocks = [
            Block(span.phase.value, _KINDS.get(span.phase, "wait"), (span.start - start).total_seconds(), span.seconds)
            for span in of_attempt
        ]
        legend = "".join(
            f'<li><i class="{_KINDS.get(phase, "wait")}"></i><b>{phase.value}</b> {words.duration(phases[phase])}</li>'
            for phase in timeline.ORDER
            if phase in phases
        )
        usd = sum((charge.amount_usd for charge in charges if charge.attempt == number), Decimal(0))
        took = words.duration(sum(phases.values()))
        heading = _attempt_heading(number, known.get(number), f"{took} · {words.exact(usd)}")
        parts.append(
            f'<div class="attempt">{heading}{bar(blocks, seconds=seconds)}<ul class="phases">{legend}</ul>'
            f"{_attempt_error(known.get(number))}</div>"
        )
    return f'<div class="box">{"".join(parts)}</div>'


def _attempt_heading(number: int, attempt: Attempt | None, right: str) -> str:
    where = f"{words.provider(attempt)}, {words.hardware(attempt.offer)}" if attempt else "nothing rented"
    outcome = words.outcome(attempt.outcome) if attempt and attempt.outcome else ""
    return (
        f'<div class="line"><h3>Attempt {number}</h3><span class="soft">{_safe(where)}</span>'
        f'<span>{_safe(outcome)}</span><span class="right soft">{right}</span></div>'
    )


def _attempt_error(attempt: Attempt | None) -> str:
    said = [attempt.error] if attempt and attempt.error else []
    if attempt is not None:
        said += [f"left {left.get('offer_id', '?')}: {left.get('reason', '')}" for left in attempt.tries[:20]]
    return "".join(f'<p class="why">{_safe(line)}</p>' for line in said)


def _artifacts(run: Run, artifacts: Sequence[ArtifactLine]) -> str:
    incomplete = '<p class="alert warn"><strong>Incomplete.</strong> Not everything came back: see the events.</p>'
    warning = incomplete if run.artifacts_complete is False else ""
    if not artifacts:
        return warning
    rows = (
        f'<tr><td class="wide">{_safe(file.path)}</td><td class="n">{words.size(file.bytes)}</td>'
        f'<td class="mono" title="{_safe(file.sha256 or "")}">{_safe((file.sha256 or "-")[:12])}</td></tr>'
        for file in artifacts[:MOST_ARTIFACTS]
    )
    hidden = len(artifacts) - MOST_ARTIFACTS
    more = f'<tr><td colspan="3" class="soft">and {hidden:,} more</td></tr>' if hidden > 0 else ""
    count, size = words.plural(len(artifacts), "file"), words.size(sum(file.bytes for file in artifacts))
    foot = f'<tfoot><tr><td>{count}</td><td class="n">{size}</td><td></td></tr></tfoot>'
    head = '<thead><tr><th>Path</th><th class="n">Size</th><th>sha256</th></tr></thead>'
    return f'{warning}<div class="box scroll"><table>{head}<tbody>{"".join(rows)}{more}</tbody>{foot}</table></div>'


def _cost(charges: Sequence[ChargeRow]) -> str:
    lines = bill(charges)
    if not lines:
        return ""
    titles = ("Attempt", "Meter", "Quantity", "Rate", "Estimate", "Settlement", "Total", "Source")
    numeric = {"Attempt", "Quantity", "Rate", "Estimate", "Settlement", "Total"}
    head = "".join(f"<th{' class=n' if title in numeric else ''}>{title}</th>" for title in titles)
    rows = "".join(map(_bill_row, lines))
    sums = [
        sum((line.estimate for line in lines), Decimal(0)),
        sum((line.settlement or Decimal(0) for line in lines), Decimal(0)),
        total(charges),
    ]
    foot = "".join(f'<td class="n">{words.exact(usd)}</td>' for usd in sums)
    settled = any(line.settlement is not None for line in lines)
    compared = "the settlement is the difference to the cloud's own figure" if settled else "no cloud has billed it yet"
    note = f"The estimate accrued from the rates that the cloud has named; {compared}."
    return (
        f'<div class="box scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        f'<tfoot><tr><td colspan="4">Total</td>{foot}<td></td></tr></tfoot></table></div><p class="more">{note}</p>'
    )


def _bill_row(line: BillLine) -> str:
    settlement = "-" if line.settlement is None else words.exact(line.settlement)
    return (
        f'<tr><td class="n">{line.attempt}</td><td class="keep">{_safe(line.provider)} {_safe(line.meter)}</td>'
        f'<td class="n">{words.quantity(line.quantity)} {_safe(line.unit)}</td>'
        f'<td class="n">{_safe(words.rate(line.rate, line.unit))}</td><td class="n">{words.exact(line.estimate)}</td>'
        f'<td class="n">{settlement}</td><td class="n">{words.exact(line.total)}</td>'
        f'<td class="wide soft">{_safe(", ".join(line.sources))}</td></tr>'
    )


def _what_ran(spec: Mapping[str, Any], attempts: Sequence[Attempt]) -> str:
    environment = spec.get("env")
    code: list[tuple[str, object]] = [
        ("Image", spec.get("image") or ("built from a Dockerfile" if spec.get("build") else "none: a process")),
        ("Setup", spec.get("setup")),
        ("Command", spec.get("run")),
        ("Environment", "\n".join(f"{k}={v}" for k, v in environment.items()) if isinstance(environment, dict) else ""),
    ]
    plain: list[tuple[str, object]] = [
        ("Secrets", ", ".join(map(str, spec.get("secrets") or ()))),
        ("Asked for", words.resources(spec.get("resources") or {})),
        ("Limits", words.limits(spec.get("limits") or {})),
        *_machines(attempts),
    ]
    items = [f"<dt>{name}</dt><dd><code>{_safe(str(value).strip())}</code></dd>" for name, value in code if value]
    items += [f"<dt>{name}</dt><dd>{_safe(value)}</dd>" for name, value in plain if value]
    return f'<div class="box"><dl class="facts">{"".join(items)}</dl></div>'


def _machines(attempts: Sequence[Attempt]) -> Iterator[tuple[str, str]]:
    """Where each attempt ran; an attempt on the same kind of machine as the one before is not told again."""
    before = ""
    for attempt in attempts:
        described = _machine(attempt)
        if described and described != before:
            yield ("Machine" if len(attempts) == 1 else f"Machine {attempt.number}"), described
        before = described


def _machine(attempt: Attempt) -> str:
    facts = attempt.facts if isinstance(attempt.facts, dict) else {}
    gpus = facts.get("gpus")
    names = [_gpu(gpu) for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    memory = facts.get("memory_bytes")
    docker = facts.get("docker")
    parts = [
        words.provider(attempt),
        attempt.offer.get("region"),
        attempt.instance_id,
        *dict.fromkeys(f"{names.count(name)}x {name}" for name in names),
        f"CUDA {facts['cuda']}" if facts.get("cuda") else None,
        f"{facts['cpus']} CPUs" if facts.get("cpus") else None,
        f"{words.size(memory)} memory" if isinstance(memory, (int, float)) else None,
        facts.get("os"),
        f"Python {facts['python']}" if facts.get("python") else None,
        f"Docker {docker['version']}" if isinstance(docker, dict) and docker.get("version") else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def _gpu(gpu: Mapping[str, Any]) -> str:
    memory = gpu.get("memory_mb")
    size = f" {memory / 1024:.0f} GiB" if isinstance(memory, (int, float)) else ""
    return f"{gpu.get('name') or 'GPU'}{size}{f' (driver {driver})' if (driver := gpu.get('driver')) else ''}"


def _events(events: Sequence[Event]) -> str:
    """What happened besides the mere change of phase, which the timeline shows."""
    told = [event for event in events if event.kind != "phase" or event.text != event.phase.value]
    if not told:
        return ""
    first = MOST_EVENTS // 6
    shown = told if len(told) <= MOST_EVENTS else [*told[:first], *told[first - MOST_EVENTS :]]
    rows = [_event_row(event, event.at - events[0].at) for event in shown]
    if len(shown) < len(told):
        rows.insert(first, f'<tr><td colspan="4" class="soft">{len(told) - len(shown):,} events left out</td></tr>')
    head = '<thead><tr><th class="n">After</th><th>Phase</th><th>Kind</th><th>What</th></tr></thead>'
    return f'<div class="box scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _event_row(event: Event, after: timedelta) -> str:
    return (
        f'<tr><td class="n soft" title="{words.moment(event.at)}">{words.duration(after.total_seconds())}</td>'
        f'<td>{event.phase.value}</td><td>{_safe(event.kind)}</td><td class="wide">{_safe(event.text)}</td></tr>'
    )


def _log(logs: Sequence[Path]) -> str:
    """The last lines of the newest log that has any."""
    for log in reversed(logs):
        if lines := _last_lines(log):
            shown = "\n".join(_safe(line) for line in lines)
            return f'<div class="box"><pre>{shown}</pre></div>'
    return ""


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")[-LOG_LINES:]
    # A progress bar rewrites its line: what stands after the last return is what a terminal would show.
    ends = [without_escapes(line.rstrip("\r").rpartition("\r")[2])[:_LONGEST_LOG_LINE] for line in lines]
    return ends if any(line.strip() for line in ends) else []


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _cards(cards: Sequence[str]) -> str:
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""
