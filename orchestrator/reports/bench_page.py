"""A suite's sweeps on one page for a browser: what changed, what went wrong, what to rent, and every series.

Draws what `overview` assembled; reads no file and asks nobody. Names come from suites, jobs and clouds: they go through
`safe` or `one_line`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from orchestrator.benchmarks.incidents import Incident
from orchestrator.benchmarks.overview import Change, Night, Overview, Step, Track
from orchestrator.benchmarks.results import USD_PER_HOUR
from orchestrator.benchmarks.series import differences, machine_words
from orchestrator.benchmarks.series import task as task_of
from orchestrator.reports import bench_rent, words
from orchestrator.reports.figures import card
from orchestrator.reports.page import page as whole_page
from orchestrator.reports.page import safe
from orchestrator.reports.svg import Axes, Curve, line_chart
from orchestrator.together import Together

MOST_SERIES = 200
MOST_INCIDENTS = 30
_LONGEST_TEXT = 500
_LEAST_SPAN = 0.05  # of the level: what is drawn above and below it, so that noise does not look like news
_TONES: Mapping[str, str] = {"slower": "bad", "worse": "bad", "dearer": "warn"}
_HARMLESS = ("preempted", "unanswered", "cancelled")
_NOTHING = "<p>No series went to another level.</p>"
# What explains most comes first.


def page(view: Overview, *, now: datetime) -> str:
    """The whole file; it needs no network and no script."""
    body = [
        _header(view),
        _key_figures(view),
        _section("What changed", _changes(view.changes) or _NOTHING) if view.tracks else "<p>There are no results.</p>",
        _section("What did not go well", _incidents(view.incidents)),
        _section("What to rent", bench_rent.section(view.prices)),
        _section("Every series", _series(view)),
        _section("Nights", _nights(view.nights)),
        f"<footer>gpujob · benchmarks {safe(view.suite)} · written {words.moment(now)}</footer>",
    ]
    return whole_page(f"Benchmarks {view.suite}", body)


def summary(changes: Sequence[Change]) -> str:
    """2 got slower, 1 got dearer; or that nothing changed."""
    found = [change.main.word for change in changes]
    order = ("slower", "worse", "dearer", "faster", "better", "cheaper")
    told = [f"{found.count(word)} got {word}" for word in order if word in found]
    return ", ".join(told) or "nothing changed its level"


def _header(view: Overview) -> str:
    simulated = [track.series.newest.is_simulated for track in view.tracks]
    badge = "simulated" if simulated and all(simulated) else "partly simulated" if any(simulated) else ""
    badges = f'<span class="badge warn">{badge}</span>' if badge else ""
    beds = list(dict.fromkeys(machine_words(track.series.newest) for track in view.tracks))
    sub = [words.plural(len(view.nights), "night"), _span(view.nights), f"{len(view.tracks):,} series"]
    covers = " · ".join(part for part in sub if part)
    where = f'<div class="sub">On {safe(", ".join(beds))}</div>' if beds else ""
    return (
        f'<header><div class="line"><h1>Benchmarks {safe(view.suite)}</h1>{badges}</div>'
        f'<div class="sub">{covers}</div>{where}</header>'
    )


def _span(nights: Sequence[Night]) -> str:
    if not nights:
        return ""
    first, last = _day(nights[-1].row.created_at), _day(nights[0].row.created_at)
    return first if first == last else f"{first} to {last}"


def _succeeded(its: Together, noun: str = "") -> str:
    return f"{len(its.succeeded):,} of {len(its.runs):,}{noun}"


def _key_figures(view: Overview) -> str:
    if not view.nights:
        return ""
    newest = view.nights[0].its
    going = f", {len(newest.going)} go on" if newest.going else ""
    shown = [
        ("Since the first night", summary(view.changes), ""),
        ("Last night", _succeeded(newest, " jobs"), f"succeeded{going}, {words.money(newest.usd)}"),
        ("All nights", _succeeded(view.its, " jobs"), "succeeded"),
        ("Cost", words.money(view.its.usd), f"{words.money(view.its.usd / len(view.nights))} a night"),
    ]
    items = (
        f"<div><dt>{name}</dt><dd>{safe(value)}<small>{safe(note)}</small></dd></div>" for name, value, note in shown
    )
    return f'<dl class="figures">{"".join(items)}</dl>'


def _changes(changes: Iterable[Change]) -> str:
    told = "".join(map(_change, changes))
    return f'<div class="box">{told}</div>' if told else ""


def _change(change: Change) -> str:
    first, word = change.main.first, change.main.word
    where = " on ".join(part for part in (task_of(first), machine_words(first)) if part is not None)
    badge = f'<span class="badge {_TONES.get(word, "good")}">{word}</span>'
    steps = "; ".join(_step(step) for step in change.steps)
    return (
        f'<div class="attempt"><div class="line">{badge}<h3>{safe(where)}</h3>'
        f'<span class="right soft">since {_day(first.at)}</span></div><div>{safe(steps)}</div>'
        f'<p class="why">{safe(_differs(change.main))} First seen in {safe(first.run_id)}.</p></div>'
    )


def _step(step: Step) -> str:
    """samples_per_second 1,200 → 1,050 samples/s (-12.5 %)."""
    share = "from nothing" if step.share is None else f"{step.share:+.1%}".replace("%", " %")
    track = step.track
    return f"{track.series.metric} {_value(track, step.row.before)} → {_value(track, step.row.after)} ({share})"


def _differs(step: Step) -> str:
    told = differences(step.row)
    return f"What differs of the testbed: {told}." if told else "Nothing that is noted of the testbed differs."


def _incidents(incidents: Sequence[Incident]) -> str:
    if not incidents:
        return ""
    shown, older = incidents[:MOST_INCIDENTS], incidents[MOST_INCIDENTS:]
    more = f"<details><summary>and {len(older):,} older ones</summary>{_list_of(older)}</details>" if older else ""
    return f'<div class="box">{_list_of(shown)}{more}</div>'


def _list_of(incidents: Iterable[Incident]) -> str:
    return "".join(
        f'<div class="attempt"><div class="line">'
        f'<span class="badge {"warn" if one.kind in _HARMLESS else "bad"}">{safe(one.kind)}</span>'
        f'<span class="soft">{_day(one.at)} · {safe(one.sweep_id)} · {safe(one.run_id)}</span></div>'
        f'<div class="why">{safe(words.one_line(one.text)[:_LONGEST_TEXT])}</div></div>'
        for one in incidents
    )


def _series(view: Overview) -> str:
    parts = []
    for task, tracks in groupby(view.tracks[:MOST_SERIES], key=lambda track: task_of(track.series.newest)):
        title = "What machines cost" if task is None else safe(task)
        parts.append(f'<h3>{title}</h3><div class="cards">{"".join(map(_card, tracks))}</div>')
    hidden = len(view.tracks) - MOST_SERIES
    if hidden > 0:
        parts.append(f'<p class="more">and {hidden:,} more series, which the CSV has</p>')
    return f'<div class="nights">{"".join(parts)}</div>' if parts else ""


def _card(track: Track) -> str:
    newest, level = track.series.newest, track.levels[-1][2]
    metric = words.one_line(track.series.metric)
    value = _value(track, newest.value, with_unit=False)
    return card(metric, value, " · ".join(_notes(track)), _chart(track, level))


def _notes(track: Track) -> Iterator[str]:
    where = machine_words(track.series.newest)
    named = track.name.endswith(")") and not track.name.endswith(where)  # by its target, as another has its name
    yield words.one_line(f"{where} {track.name[track.name.rindex('(') :]}" if named else where)
    yield f"{words.plural(len(track.series.rows), 'result')}, median {_value(track, track.levels[-1][2])}"
    if track.noise is not None:
        yield f"noise ±{track.noise:.1%}".replace("%", " %")
    rows = {row.run_id: row for row in track.series.rows}
    for change in track.changes[-3:]:
        step = Step(track=track, row=change, first=rows[change.run_id])
        yield f"{step.word} since {_day(step.first.at)}"


def _chart(track: Track, level: float) -> str:
    rows = track.series.rows
    if len(rows) < 2:
        return ""
    times = [row.at.timestamp() for row in rows]
    steps = [[(times[first], at), (times[end - 1], at)] for first, end, at in track.levels]
    dots = [[(time, row.value)] for time, row in zip(times, rows, strict=True)]
    room = abs(level) * _LEAST_SPAN
    axes = Axes(
        x_format=lambda seconds: f"{datetime.fromtimestamp(seconds, rows[0].at.tzinfo):%d %b}",
        y_format=lambda value: _value(track, value, with_unit=False),
        y_range=(level - room, level + room),
        x_is_seconds=True,
        marks=[times[first] for first, _, _ in track.levels[1:]],
    )
    curves = [Curve("", steps, is_level=True), Curve("", dots, is_spots=True)]
    return line_chart(curves, title=f"{words.one_line(track.name)} over time", axes=axes)


def _nights(nights: Sequence[Night]) -> str:
    if not nights:
        return ""
    titles = "<th>Began</th><th>Sweep</th><th>Commit</th>" + '<th class="n">Jobs</th><th class="n">Cost</th>'
    rows = "".join(
        f'<tr><td class="keep">{words.moment(night.row.created_at)}</td><td>{safe(night.row.id)}</td>'
        f'<td class="mono">{safe(night.row.commit or "-")}</td>'
        f'<td class="n">{_succeeded(night.its)}</td><td class="n">{words.money(night.its.usd)}</td></tr>'
        for night in nights
    )
    table = f'<div class="box scroll"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>{words.plural(len(nights), 'sweep')}</summary>{table}</details>"


def _value(track: Track, value: float, *, with_unit: bool = True) -> str:
    if track.series.metric == USD_PER_HOUR:
        return words.rate(Decimal(f"{value:.6g}"))
    unit = words.one_line(track.series.newest.unit)
    return f"{words.number(value)} {unit}" if unit and with_unit else words.number(value)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _day(at: datetime) -> str:
    return f"{at:%d %b %Y}"
