"""Tables and the summary: complete in a pipe, coloured and fitted on a terminal, harmless everywhere."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from typing import Any

import click
import pytest

from orchestrator.records import AttemptOutcome, ChargeKind, Outcome, Phase
from orchestrator.reports import text
from orchestrator.reports.bill import bill, total
from tests.orchestrator.reports.samples import START, attempt, charge, event, file, run

NOW = START + timedelta(hours=1)
HOSTILE = "[red]\x1b]0;owned\x07<b>\nnext"


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_runs_in_a_pipe_are_whole_lines_of_plain_columns() -> None:
    runs = [run(), run(id="r-" + "x" * 40, phase=Phase.BOOT, outcome=None, ended_at=None, attempt=0)]
    shown = text.runs_table(runs, {"r-7k2m9x": [attempt()]}, {"r-7k2m9x": Decimal("0.0943")}, now=NOW)
    assert shown.splitlines() == [
        "RUN                                         NAME   STATUS     WHERE  GPU            TOOK   COST  SUBMITTED",
        "r-7k2m9x                                    mnist  succeeded  vast   1x RTX4090  16m 34s  $0.09  1h ago",
        "r-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx  mnist  boot       -      -            1h 00m  $0.00  1h ago",
    ]


def test_on_a_narrow_terminal_ids_stay_whole_and_names_give_way(colours: None) -> None:
    one = run(id="r-" + "x" * 20, name="a name of several words that is far too long for its column")
    shown = text.runs_table(
        [one], {one.id: [attempt()]}, {one.id: Decimal("1234.5")}, now=NOW, terminal=True, width=110
    )
    plain = click.unstyle(shown).splitlines()
    assert "\x1b[32msucceeded\x1b[0m" in shown
    assert one.id in plain[1]
    assert "$1,234.50" in plain[1]
    assert max(map(len, plain)) <= 110
    start, end = plain[0].index("NAME"), plain[0].index("STATUS")
    assert " ".join(line[start:end] for line in plain[1:]).split() == one.name.split()


def test_wide_characters_keep_the_columns_straight(colours: None) -> None:
    runs = [run(name="数字"), run(name="abcd")]
    first, second = text.runs_table(runs, {}, {}, now=NOW).splitlines()[1:]
    assert first.index("succeeded") == second.index("succeeded") - 2


def test_no_color_is_respected(colours: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in text.runs_table([run()], {}, {}, now=NOW, terminal=True, width=120)


def test_what_may_still_cost_money_is_said_in_the_list() -> None:
    assert "possibly still billing" in text.runs_table([run(possibly_billing=True)], {}, {}, now=NOW)


@pytest.mark.parametrize("terminal", [False, True])
def test_names_cannot_command_a_terminal_or_a_table(terminal: bool) -> None:
    shown = text.runs_table([run(name=HOSTILE)], {}, {}, now=NOW, terminal=terminal, width=200)
    shown += text.events_table([event(0, Phase.WATCH, "warning", HOSTILE)], terminal=terminal, width=200)
    shown += text.artifacts_table([file(HOSTILE)], terminal=terminal, width=200)
    shown += text.run_summary(run(name=HOSTILE), [], [], {HOSTILE: 1.0}, [file(HOSTILE)], now=NOW, terminal=terminal)
    assert shown.count("[red]<b> next") == 6
    assert "owned" not in shown


def test_the_summary_of_a_good_run() -> None:
    metrics = {"loss": 0.0523, "accuracy": 0.9841}
    charges = [charge(), charge("disk", "0.0021")]
    shown = text.run_summary(run(), [attempt()], charges, metrics, [file(), file("a.json", 10)], now=NOW)
    assert shown.splitlines() == [
        "mnist  r-7k2m9x  succeeded in 16m 34s for $0.10",
        "",
        "  ran on     vast SE, 1x RTX4090, $0.3412/h",
        "  metrics    loss 0.0523   accuracy 0.9841",
        "  artifacts  2 files, 4.7 MB: outputs/model.pt, a.json",
        "  cost       compute $0.09, disk $0.0021",
    ]


def test_the_summary_of_a_bad_run_says_what_went_wrong_first() -> None:
    lost = run(
        outcome=Outcome.FAILED, exit_code=3, error="the job failed", artifacts_complete=False, possibly_billing=True
    )
    tries = [attempt(n, outcome=AttemptOutcome.PREEMPTED, error="outbid") for n in range(1, 10)]
    lines = text.run_summary(lost, tries, [], {}, [], now=NOW).splitlines()
    assert lines[2].startswith("  BILLING ")
    assert lines[3:5] == ["  error      the job failed", "  exit code  3"]
    assert "  attempt 9  vast SE, 1x RTX4090, $0.3412/h: preempted (outbid)" in lines
    assert "  artifacts  INCOMPLETE: 0 files, 0 B" in lines
    assert len(lines) < 24


def test_the_summary_of_much_is_still_one_screen() -> None:
    metrics = {f"m{n}": float(n) for n in range(30)}
    files = [file(f"out/{n}") for n in range(5000)]
    shown = text.run_summary(run(), [attempt(n) for n in range(1, 11)], [charge()], metrics, files, now=NOW)
    assert len(shown.splitlines()) < 24
    assert "and 20 more" in shown
    assert "and 4,996 more" in shown


def test_a_bill_adds_estimates_and_the_settlement_up_per_meter() -> None:
    settlement = charge(usd="-0.0100", kind=ChargeKind.SETTLEMENT, quantity=Decimal("-0.03"), source="invoice 7")
    charges = [charge(usd="0.0500"), charge("disk", "0.0021"), charge(usd="0.0500"), settlement, charge(number=2)]
    lines = bill(charges)
    assert [(line.attempt, line.meter, line.total) for line in lines] == [
        (1, "compute", Decimal("0.0900")),
        (1, "disk", Decimal("0.0021")),
        (2, "compute", Decimal("0.0943")),
    ]
    assert sum(line.total for line in lines) == total(charges)
    assert lines[0].sources == ("offer 11, frozen at rent time", "invoice 7")
    assert (lines[0].settlement, lines[1].settlement) == (Decimal("-0.0100"), None)
    shown = text.charges_table(charges).splitlines()
    assert "$0.3412/hour   $0.1000  -$0.0100  $0.0900" in shown[1]
    assert shown[-1].split() == ["total", "$0.1864"]


def test_a_bill_has_a_line_for_every_rate() -> None:
    """Also after something was booked at a rate that was over, and at one that never was."""
    dear: dict[str, Any] = {"rate_usd": Decimal("0.5"), "source": "history"}
    never: dict[str, Any] = {"rate_usd": Decimal("9"), "source": "at launch"}
    charges = [
        charge(usd="9", quantity=Decimal(1), **never),
        charge(usd="0.3412", quantity=Decimal(1)),
        charge(usd="-9", quantity=Decimal(-1), **never),
        charge(usd="1", quantity=Decimal(2), **dear),
        charge(usd="-0.0412", quantity=Decimal("-0.12")),
        charge(usd="0.02", quantity=Decimal(0), kind=ChargeKind.SETTLEMENT, **{**dear, "source": "invoice 7"}),
    ]
    found = [(line.rate, line.quantity, line.estimate, line.settlement) for line in bill(charges)]
    assert found == [
        (Decimal("0.3412"), Decimal("0.88"), Decimal("0.3000"), None),
        (Decimal("0.5"), Decimal(2), Decimal(1), Decimal("0.02")),
    ]
    assert sum(line.total for line in bill(charges)) == total(charges)


def test_artifacts_and_events_in_a_pipe() -> None:
    shown = text.artifacts_table([file("a", 5), file("b/c.bin", 1500)]).splitlines()
    assert shown[1].endswith(file().sha256 or "-")
    assert shown[-1].split() == ["2", "files", "1.5", "kB"]
    (line,) = text.events_table([event(5, Phase.BOOT, "machine", "is up")]).splitlines()[1:]
    assert line == "2026-11-21 08:30:05 UTC    1  boot   machine  is up"


def test_empty_tables_have_their_titles(colours: None) -> None:
    assert text.runs_table([], {}, {}, now=NOW).startswith("RUN")
    assert text.events_table([], terminal=True).split()[-1] == "\x1b[1mWHAT\x1b[0m"


@pytest.mark.process
def test_tables_load_nothing_heavy() -> None:
    heavy = "{'rich', 'pydantic', 'sqlalchemy', 'paramiko', 'ruamel'}"
    show = "import sys, orchestrator.reports.text as text; text.events_table([], terminal=True)"
    code = f"{show}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
