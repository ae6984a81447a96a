"""What one job would cost and how long it would take, offer by offer: what times rest on, and a page with a picture.

Draws offers that were asked for with a job in mind; asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from orchestrator.placement import Ranked
from orchestrator.reports import words
from orchestrator.reports.page import page, safe
from orchestrator.reports.scatter import Axis, Dot, scatter
from orchestrator.reports.svg import short_time

MOST_DOTS = 600  # the cheapest; the best are always among them
_MOST_NAMED = 4  # kinds of hardware in one line


def what_times_rest_on(offers: Sequence[Ranked]) -> list[str]:
    """One line for each way in which a time was come by, the first offers' first."""
    found: dict[str, dict[str, None]] = {}
    for ranked in offers:
        if ranked.estimate is not None:
            name = f"{_hardware(ranked)}{' (simulated)' if ranked.is_simulated else ''}"
            found.setdefault(ranked.estimate.rests_on, {})[name] = None
    if len(found) == 1:
        return [f"TIME: {rests_on}" for rests_on in found]
    return [f"TIME on {_some([*names])}: {rests_on}" for rests_on, names in found.items()]


def job_page(name: str, offers: Sequence[Ranked], *, now: datetime, missing: Sequence[str] = ()) -> str:
    """One file, for a browser. `missing` are lines about clouds that are not in it."""
    fresh = [one for one in offers if one.estimate is not None and not one.is_stale]
    title = f"{words.one_line(name)}: time against money"
    told = "What could be rented for this job. The numbered offers are those that no other beats in both; ~ is a guess."
    rests = "".join(f"<li>{safe(line)}</li>" for line in what_times_rest_on(fresh))
    body = [
        f'<header><div class="line"><h1>{safe(title)}</h1></div><div class="sub">{told}</div></header>',
        *(_section([one for one in fresh if one.is_simulated == kind], is_simulated=kind) for kind in (False, True)),
        "" if fresh else "<p>Nothing fits.</p>",
        f"<section><h2>What the times rest on</h2><ul>{rests}</ul></section>" if fresh else "",
        "".join(f"<p>{safe(line)}</p>" for line in missing),
        f"<footer>gpujob · written {words.moment(now)}</footer>",
    ]
    return page(title, body)


def _section(offers: Sequence[Ranked], *, is_simulated: bool) -> str:
    if not offers:
        return ""
    points: dict[tuple[float, Decimal], Ranked] = {}  # of offers that are alike in both, the first
    for one in sorted((one for one in offers if one.is_best), key=_seconds):
        points.setdefault((_seconds(one), one.total_usd), one)
    best = list(points.values())
    others = sorted((one for one in offers if not one.is_best), key=lambda one: one.total_usd)[:MOST_DOTS]
    dots = [Dot(_seconds(one), float(one.total_usd), _told(one)) for one in others]
    dots += [
        Dot(_seconds(one), float(one.total_usd), _told(one), number, f"{_gpu(one)} {one.offer.provider}")
        for number, one in enumerate(best, start=1)
    ]
    heading = "<h2>Simulated: nobody sells these</h2>" if is_simulated else ""
    chart = scatter(
        dots,
        title=f"{words.plural(len(offers), 'offer')}{' (simulated)' if is_simulated else ''}: dollars against time",
        x=Axis("time until it is done", short_time, is_seconds=True),
        y=Axis("expected cost", lambda usd: words.money(Decimal(f"{usd:.4g}"))),
    )
    return f'<section>{heading}<figure class="card plane">{chart}</figure>{_table(best)}</section>'


def _table(best: Sequence[Ranked]) -> str:
    rows = "".join(
        f'<tr><td class="n">{number}</td><td>{safe(_hardware(one))} <span class="soft">{safe(_where(one))}</span></td>'
        f'<td class="n">{safe(words.money(one.total_usd))}</td><td class="n">{safe(_time(one))}</td>'
        f'<td class="n">{safe(_price(one))}</td></tr>'
        for number, one in enumerate(best, start=1)
    )
    numbers = "".join(f'<th class="n">{title}</th>' for title in ("Cost", "Time", "Price"))
    return (
        '<div class="box scroll"><table><thead><tr><th></th><th>Machine</th>'
        f"{numbers}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _told(one: Ranked) -> str:
    return f"{_hardware(one)} {_where(one)}: {words.money(one.total_usd)}, {_time(one)}"


def _hardware(one: Ranked) -> str:
    offer = one.offer
    return words.hardware({"gpu_count": offer.gpu_count, "gpu": offer.gpu, "vcpus": offer.vcpus})


def _gpu(one: Ranked) -> str:
    """Short, for a label."""
    offer = one.offer
    return words.one_line(offer.gpu or "GPU") if offer.gpu_count == 1 else _hardware(one)


def _where(one: Ranked) -> str:
    return words.one_line(f"{one.offer.provider} {one.offer.region}")


def _price(one: Ranked) -> str:
    return words.rate(one.offer.usd_per_hour) + (" spot" if one.offer.spot else "")


def _time(one: Ranked) -> str:
    guess = one.estimate is not None and one.estimate.is_guess
    return f"{'~' if guess else ''}{words.duration(_seconds(one))}"


def _seconds(one: Ranked) -> float:
    return one.estimate.seconds if one.estimate else 0.0


def _some(names: Sequence[str]) -> str:
    shown = names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 1], f"{len(names) - _MOST_NAMED + 1} more"]
    return ", ".join(shown)
