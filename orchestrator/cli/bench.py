"""gpujob bench: suites of benchmarks, what they measured, and what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.command import command
from orchestrator.cli.errors import Stop
from orchestrator.cli.options import json_option, yes_option
from orchestrator.cli.session import Session, pass_session

_ACTIONS = ("list", "run", "show", "compare", "history", "report", "gate", "export")
_FORMATS = ("github", "csv", "prometheus", "mlflow")
_BELONGS = {
    **{"suite": "compare", "claims": "compare", "metric": "history", "detach": "run", "yes": "run", "html": "report"},
    **{"only": "run", "dry_run": "run", "form": "export", "better": "export", "to": "export"},
}
_SUITE_FILE = "suite.yaml"


@command(
    "bench",
    examples=(
        "gpujob bench run suite.yaml",
        "gpujob bench run suite.yaml --only cpu --only mnist",
        "gpujob bench run suite.yaml --dry-run",
        "gpujob bench run smoke.yaml -- --image none",
        "gpujob bench show",
        "gpujob bench compare cpu gpu --claims claims.yaml",
        "gpujob bench history --metric samples_per_second",
        "gpujob bench report cpu-against-gpu --html nights.html",
        "gpujob bench gate cpu-against-gpu >> $GITHUB_STEP_SUMMARY",
        "gpujob bench export --format prometheus > /var/lib/node_exporter/gpujob.prom",
        "gpujob bench export --format mlflow --to http://localhost:5000",
    ),
    exits=(exit_codes.USAGE, *exit_codes.OF_A_RUN),
)
@click.argument("action", type=click.Choice(_ACTIONS), default="list", metavar="[ACTION]")
@click.argument("subjects", metavar="[FILE|SUITE|SWEEP|MACHINE]...", nargs=-1)
@click.option("--suite", help="Of `compare`: only this suite's results.")
@click.option("--metric", help="Of `history`: only this metric.")
@click.option("--claims", type=click.Path(path_type=Path), help="Of `compare`: figures of other people, shown apart.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Of `run`: this task or target; may be given several times."
)
@click.option("--html", type=click.Path(path_type=Path), help="Of `report`: where the page is written.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="Of `export`.")
@click.option("--better", type=click.Choice(("lower", "higher")), help="Of `export --format github`: which metrics.")
@click.option("--to", metavar="URI", help="Of `export --format mlflow`: the tracking server, or a folder.")
@click.option("--dry-run", is_flag=True, help="Of `run`: say where it would run and what it could cost; rent nothing.")
@click.option("-d", "--detach", is_flag=True, help="Of `run`: print the sweep's id and return.")
@yes_option
@json_option
@pass_session
def bench(session: Session, /, action: str, subjects: tuple[str, ...], *, as_json: bool, **given: Any) -> int:
    """Run benchmark suites and say what changed.

    `run FILE` makes a run of every task on every machine of a suite, and waits for all of them; what follows `--` are
    options of `gpujob submit`, for each run. `list` has the sweeps, `show [SWEEP|SUITE]` the newest one with its
    results. `compare A B` lays machines side by side, by target, provider, GPU, or several words such as "vast
    RTX4090". `history [SUITE]` has every series with its noise and its changes.

    `report [SUITE]` says what got slower or dearer, what failed and what to rent; with --html on one page, with every
    series. `gate [SWEEP|SUITE]` prints what got worse as a Markdown table: its exit code is 1 when something but a
    price did, 3 when results are missing. `export [SUITE]` prints results for other programs.
    """
    for name, of in _BELONGS.items():
        if given[name] and action != of:
            option = "format" if name == "form" else name.replace("_", "-")
            raise click.UsageError(f"--{option} belongs to `gpujob bench {of}`")
    if action == "run":
        from orchestrator.cli.bench_run import Ways, run

        names_none = not subjects or subjects[0].startswith("-")  # only options of submit
        file, *options = (_SUITE_FILE, *subjects) if names_none else subjects
        ways = Ways(
            only=given["only"],
            dry_run=given["dry_run"],
            detach=given["detach"],
            any_size=given["yes"],
            as_json=as_json,
        )
        return run(session, _file(file), options, ways)
    from orchestrator.cli import bench_views

    if action == "compare":
        if len(subjects) != 2:
            raise click.UsageError("say which two machines: gpujob bench compare cpu gpu")
        return bench_views.compare(session, subjects, suite=given["suite"], claims=given["claims"], as_json=as_json)
    if len(subjects) > 1:
        raise click.UsageError(f"{subjects[1]!r}: `gpujob bench {action}` takes one name")
    subject = subjects[0] if subjects else None
    if action == "report":
        return bench_views.report(session, subject, given["html"])
    if action == "export":
        return bench_views.export(session, subject, given["form"], better=given["better"], to=given["to"])
    if action == "history":
        return bench_views.history(session, subject, metric=given["metric"], as_json=as_json)
    show = {"list": bench_views.show_list, "show": bench_views.show_one, "gate": bench_views.gate}[action]
    return show(session, subject, as_json=as_json)


def _file(text: str) -> Path:
    file = Path(text)
    if file.is_dir():
        file = file / _SUITE_FILE
    if not file.is_file():
        raise Stop(f"there is no {file}; `gpujob init benchmarks` makes a suite to start from")
    return file
