"""What a person is shown of names, words and figures that a machine or a cloud wrote: harmless, whatever they are."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from jobs.machine import FileEntry
from orchestrator.placement import Ranked
from orchestrator.records import Phase
from orchestrator.reports import text, words
from orchestrator.reports.offers import offers_table
from orchestrator.reports.plot import line, sparkline
from orchestrator.reports.table import Column, Table
from tests.fuzz.nonsense import WORDS, examples, junk, mutated, replies
from tests.orchestrator.reports.samples import START, Story, attempt, charge, event, file, run
from tests.providers.vast import wire

Json = dict[str, Any]

BAD = (
    *WORDS, "\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "\x1bP+q\x1b\\", "\r\x1b[Kgone", "\x07\x08\x7f",
    "</title><script>x", "\" onload=\"x", "'><img src=x onerror=x>", "javascript:x", "\u2028\u2029", "a" * 3000,
    "\x1b", "\x1b[", "\x1b]8;;http://x",
)  # fmt: skip
hostile = st.one_of(st.sampled_from(BAD), st.text(max_size=30))
_ALLOWED = {"\n"}


@given(hostile)
@examples(300)
def test_one_line_is_one_and_commands_nothing(said: str) -> None:
    shown = words.one_line(said)
    assert all(sign.isprintable() for sign in shown)
    shown.encode()


@given(hostile, hostile, hostile, st.booleans())
@examples(50)
def test_tables_and_summaries_command_no_terminal(one: str, two: str, three: str, terminal: bool) -> None:
    offer = {"gpu": one, "gpu_count": 2, "region": two, "source": three}
    tried = attempt(offer=offer, error=three, machine=one)
    told = run(name=one, error=two)
    paid = charge(meter=one, provider=two, source=three, unit=one)
    entry = FileEntry(one, 5, 0, "0" * 64)
    shown = [
        text.runs_table([told], {told.id: [tried]}, {told.id: Decimal(1)}, now=START, terminal=terminal, width=80),
        text.run_summary(told, [tried, tried], [paid], {one: 1.0}, [entry], now=START, terminal=terminal),
        text.charges_table([paid], terminal=terminal, width=80),
        text.artifacts_table([entry], terminal=terminal, width=80),
        text.events_table([event(1, Phase.BOOT, "warning", one)], terminal=terminal, width=80),
        f"{words.hardware(offer)} {words.place(tried)}",
    ]
    for one_shown in shown:
        _commands_nothing(one_shown, colours=terminal)


@given(hostile, hostile, hostile, st.booleans())
@examples(100)
def test_prices_command_no_terminal(one: str, two: str, three: str, terminal: bool) -> None:
    offer = replace(wire.offer(), gpu=one, region=two, location=three, cuda=one, source=two, host_id=three)
    ranked = Ranked(offer=offer, total_usd=Decimal(1), why_not=one)
    _commands_nothing(offers_table([ranked], now=START, terminal=terminal, width=100), colours=terminal)


@given(st.lists(hostile, min_size=1, max_size=4), st.integers(1, 200))
@example(["🦊" * 500], 1)
@examples(150)
def test_a_table_shows_whatever_fits_nowhere(cells: list[str], width: int) -> None:
    columns = [Column(f"C{number}", wraps=number % 2 == 0) for number in range(len(cells))]
    assert Table(columns, [[words.one_line(cell) for cell in cells]]).text(terminal=True, width=width)


@given(
    st.lists(
        replies({"time": 1.0, "step": 1, "name": "loss", "value": 0.5, "attempt": 1, "source": "json"}), max_size=4
    ),
    st.lists(replies({"time": 1.0, "cpu_percent": 2, "gpus": [{"index": 0, "utilization": 9}]}), max_size=4),
    st.lists(hostile, max_size=4),
    mutated(
        {"gpus": [{"name": "NVIDIA", "memory_mb": 1, "driver": "1"}], "cuda": "12", "cpus": 1, "memory_bytes": 1.0}
    ),
    hostile,
)
@example(
    [], [], ["</pre><script>alert(1)</script>"], {"gpus": [None], "memory_bytes": "x"}, "<script>alert(1)</script>"
)
@example(['{"time":1e300,"step":null,"name":"<b>","value":1,"attempt":1,"source":"json"}'], [], [], None, "x")
@examples(25)
def test_a_report_is_written_and_runs_nothing(
    points: list[str], samples: list[str], log: list[str], facts: Any, name: str
) -> None:
    with tempfile.TemporaryDirectory() as root:
        story = Story(Path(root), run=run(name=name, error=name))
        story.attempts = [attempt(facts=facts if isinstance(facts, dict) else None, error=name, offer={"gpu": name})]
        story.events = [*story.events, event(5, Phase.BOOT, "warning", name)]
        story.charges = [charge(meter=name, source=name)]
        story.artifacts = [file(name)]
        story.measured("loss", [1.0, 2.0]).measured("<script>alert(1)</script>", [1.0])
        with story.folder.metrics.open("ab") as metrics:
            metrics.write("".join(f"{point}\n" for point in points).encode("utf-8", "surrogatepass"))
        story.logged("\n".join(log).encode("utf-8", "surrogatepass")).sampled(count=3)
        with story.folder.attempt(1).telemetry.open("ab") as telemetry:
            telemetry.write("".join(f"{sample}\n" for sample in samples).encode("utf-8", "surrogatepass"))
        page = story.page()
    page.encode()
    _Harmless().feed(page)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
@examples(100)
def test_a_curve_is_drawn_of_any_finite_points(dots: list[tuple[float, float]]) -> None:
    finite = [(at, value) for at, value in dots if abs(at) < 1e300 and abs(value) < 1e300]
    assert isinstance(line({"a": finite}), str) and isinstance(sparkline([value for _, value in dots]), str)


@given(junk)
@examples(200)
def test_figures_are_shown_whatever_they_are(value: Any) -> None:
    if isinstance(value, float):
        words.number(value), words.duration(value)
    words.one_line(value)


class _Harmless(HTMLParser):
    """Nothing but our own tags, and no attribute that runs anything."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "iframe", "object", "embed", "form", "base", "a:x")
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert not (value or "").strip().lower().startswith("javascript:")


def _commands_nothing(shown: str, *, colours: bool) -> None:
    import re

    plain = re.sub(r"\x1b\[[0-9;]{1,4}m", "", shown) if colours else shown
    bad = {sign for sign in plain if not sign.isprintable() and sign not in _ALLOWED}
    assert not bad, bad
    shown.encode()
