"""report.html: what a reader finds on it, at every size, and that nothing on it can run, load or pretend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.home import Home
from orchestrator.records import AttemptOutcome, ChargeKind, Outcome, Phase, Run
from orchestrator.reports.html import write_report
from tests.orchestrator.reports.samples import START, Story, attempt, charge, event, file, phases, run

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'\x1b[31m\u202e\ud800"
VOID = {"meta"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and sees to it that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run")


def test_a_finished_run_on_one_page(story: Story) -> None:
    story.measured("loss", [1.0, 0.5, 0.25]).measured("accuracy", [0.9841]).sampled().logged(b"epoch 1\nepoch 2\n")
    story.events.insert(2, event(2, Phase.PROVISION, "machine", "vast made gpujob-r-7k2m9x-1-1"))
    text = Page(story.page()).text
    for told in (
        "mnist succeeded",
        "r-7k2m9x · project digits · submitted 2026-11-21 08:30:00 UTC",
        "Took 16m 34s 14m 40s in the job",
        "Cost $0.09 at $0.3412/h",
        "Ran on 1x RTX4090 vast",
        "loss 0.25 0.25 to 1",
        "accuracy 0.9841 one value",
        "boot 1m 04s",
        "watch 15m 00s",
        "GPU power",
        "outputs/model.pt 4.7 MB 9f86d081884c",
        "0.2763 hour $0.3412/hour $0.0943 - $0.0943",
        "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime",
        "python train.py --epochs 30",
        "HF_TOKEN",
        "1x NVIDIA GeForce RTX 4090 24 GiB (driver 570.86.15), CUDA 12.8, 16 CPUs, 64.0 GB memory",
        "vast made gpujob-r-7k2m9x-1-1",
        "epoch 1 epoch 2",
    ):
        assert told in text, told


def test_written_in_the_last_phase_it_already_tells_the_end(story: Story) -> None:
    story.run = run(phase=Phase.SETTLE, outcome=Outcome.TIMED_OUT)
    text = Page(story.page()).text
    assert "mnist timed out" in text
    assert "Took 16m 34s" in text


def test_it_needs_nothing_from_outside_and_forbids_it(story: Story) -> None:
    page = Page(story.measured("loss", [1.0, 2.0]).sampled().page())
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert "url(" not in story.page()
    assert "//" not in story.page()


def test_nothing_that_a_machine_wrote_becomes_markup(story: Story) -> None:
    known = Page(story.page())
    story.measured(HOSTILE, [1.0, 2.0]).measured(HOSTILE + "1", [1.0]).logged(HOSTILE.encode("utf-8", "replace") * 3)
    story.run = run(name=HOSTILE, error=HOSTILE, project=HOSTILE, id=HOSTILE)
    spec = {"image": HOSTILE, "run": HOSTILE, "setup": HOSTILE, "env": {HOSTILE: HOSTILE}, "secrets": [HOSTILE]}
    story.run.spec = {**spec, "labels": {HOSTILE: HOSTILE}, "resources": {"gpu": [{"name": HOSTILE, "count": 1}]}}
    offer = {"offer_id": HOSTILE, "gpu": HOSTILE, "gpu_count": 1, "region": HOSTILE, "source": HOSTILE}
    facts = {
        "gpus": [{"name": HOSTILE, "driver": HOSTILE}],
        "os": HOSTILE,
        "cpus": HOSTILE,
        "docker": {"version": HOSTILE},
    }
    tries = [{"offer_id": HOSTILE, "reason": HOSTILE}]
    story.attempts = [
        attempt(provider=HOSTILE, offer=offer, facts=facts, error=HOSTILE, tries=tries, instance_id=HOSTILE)
    ]
    story.events += [event(1, Phase.WATCH, HOSTILE, HOSTILE)]
    story.charges = [charge(HOSTILE, provider=HOSTILE, unit=HOSTILE, source=HOSTILE)]
    story.artifacts = [file(HOSTILE)]
    html = story.page()
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {name for name, _ in page.attributes} <= {name for name, _ in known.attributes} | SVG_ATTRIBUTES
    assert html.count("&lt;script&gt;") > 20
    assert not set("\x1b\u202e\ud800") & set(html)
    html.encode("utf-8")


SVG_ATTRIBUTES = {
    "viewbox",
    "stroke",
    "x",
    "x1",
    "x2",
    "y",
    "y1",
    "y2",
    "cx",
    "cy",
    "r",
    "fill",
    "points",
    "text-anchor",
}


def test_a_run_that_has_only_been_submitted(story: Story) -> None:
    story.run = run(phase=Phase.QUOTE, outcome=None, exit_code=None, ended_at=None, attempt=0, spec={})
    story.attempts, story.charges, story.artifacts = [], [], []
    story.events = [event(0, Phase.QUOTE, "phase", "submitted with 3 files", 0)]
    text = Page(story.page(after=5)).text
    assert "So far 5.0 s" in text
    assert "Cost $0.00" in text
    assert "nothing rented" in text
    for section in ("Metrics", "Machine ", "Artifacts", "End of the log"):
        assert section not in text


def test_without_any_event_it_still_renders(story: Story) -> None:
    story.events, story.attempts, story.charges, story.artifacts = [], [], [], []
    assert "mnist" in Page(story.page()).text


def test_ten_attempts_thirty_metrics_five_thousand_artifacts(story: Story) -> None:
    story.events = [mark for n in range(10) for mark in phases(n + 1, at=1000 * n)]
    story.attempts = [attempt(n, outcome=AttemptOutcome.PREEMPTED, error=f"outbid {n}") for n in range(1, 11)]
    story.run = run(outcome=Outcome.LOST, error="every attempt ended with its machine", attempt=10)
    story.artifacts = [file(f"out/{n:04d}.npz", 10) for n in range(5000)]
    for n in range(30):
        story.measured(f"metric {n}", [float(n), 1.0, 5.0])
    html = story.page(after=10_000)
    text = Page(html).text
    assert html.count('class="attempt"') == 10
    assert "outbid 10" in text
    assert html.count('class="chart"') == 30
    assert "out/0199.npz" in text
    assert "out/0200.npz" not in text
    assert "and 4,800 more" in text
    assert "5,000 files 50.0 kB" in text


def test_more_metrics_than_anybody_reads_are_counted(story: Story) -> None:
    for n in range(65):
        story.measured(f"metric {n}", [1.0])
    assert "and 5 more metrics" in Page(story.page()).text


def test_long_curves_are_thinned(story: Story) -> None:
    assert len(story.measured("loss", [n % 7 for n in range(50_000)]).page()) < 60_000


def test_the_bill_shows_the_settlement_and_adds_up(story: Story) -> None:
    story.charges = [charge(usd="0.1000"), charge("disk", "0.0020")]
    assert "no cloud has billed it yet" in Page(story.page()).text
    story.charges.append(charge(usd="-0.0150", kind=ChargeKind.SETTLEMENT, quantity=Decimal(0), source="invoice 7"))
    text = Page(story.page()).text
    assert "$0.1000 -$0.0150 $0.0850 offer 11, frozen at rent time, invoice 7" in text
    assert "Total $0.1020 -$0.0150 $0.0870" in text


def test_warnings_that_must_not_be_missed(story: Story) -> None:
    story.run = run(possibly_billing=True, artifacts_complete=False, outcome=Outcome.FAILED, error="exit code 1")
    story.attempts = [attempt(offer={**attempt().offer, "source": "simulated"})]
    text = Page(story.page()).text
    assert "failed, possibly still billing simulated" in text
    assert "Possibly still billing. A machine of this run may still exist" in text
    assert "Failed. exit code 1" in text
    assert "Incomplete. Not everything came back" in text


def test_the_log_ends_as_a_terminal_would_show_it(story: Story) -> None:
    bars = b"".join(b"\r%3d%%" % n for n in range(101))
    story.logged(b"".join(b"line %d\r\n" % n for n in range(500)) + bars + b"\n\x1b[32mgreen\x1b[0m \x07\xff\n\n")
    text = Page(story.page()).text
    assert "line 401 " not in text
    assert "line 402 line 403" in text
    assert "line 499 100% green \ufffd\ufffd" in text
    assert " 99%" not in text


def test_the_newest_log_that_says_anything(story: Story) -> None:
    story.attempts = [attempt(1), attempt(2), attempt(3)]
    story.logged(b"first\n").logged(b"second\n", number=2).logged(b"\n \n", number=3)
    text = Page(story.page()).text
    assert "second" in text
    assert "first" not in text


def test_many_events_keep_the_first_and_the_last(story: Story) -> None:
    story.events = [event(float(n), Phase.WATCH, "warning", f"event {n}.") for n in range(1000)]
    text = Page(story.page()).text
    assert "event 49." in text
    assert "event 50." not in text
    assert "700 events left out" in text
    assert "event 750." in text
    assert "event 999." in text


def test_a_stuck_gpu_is_pointed_out(story: Story) -> None:
    telemetry = story.folder.attempt(1).telemetry
    telemetry.parent.mkdir(parents=True)
    powers = [300] * 10 + [80] * 40
    lines = [
        f'{{"time":{n * 5},"gpus":[{{"index":0,"utilization":100,"power_watts":{p}}}]}}\n' for n, p in enumerate(powers)
    ]
    telemetry.write_text("".join(lines))
    assert "full utilisation at 80 W" in Page(story.page()).text


@dataclass
class OneRun:
    """As much of a store as a report reads."""

    story: Story

    def run(self, run_id: str) -> Run:
        return self.story.run

    def attempts(self, run_id: str) -> object:
        return self.story.attempts

    def events(self, run_id: str) -> object:
        return self.story.events

    def charges(self, *, run_id: str) -> object:
        return self.story.charges


def test_the_report_is_put_into_the_runs_folder_whole(tmp_path: Path) -> None:
    home = Home(tmp_path)
    story = Story(home.run("r-7k2m9x").root)
    now: datetime = START + timedelta(hours=1)
    path = write_report(OneRun(story), home, "r-7k2m9x", now=now)  # type: ignore[arg-type]
    assert path == home.run("r-7k2m9x").report
    assert Page(path.read_text()).text.endswith("written 2026-11-21 09:30:00 UTC ")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
