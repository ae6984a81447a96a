"""A schedule and a real controller: the time comes, the job runs, and its run says why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import timedelta

import pytest

from orchestrator.home import Home
from orchestrator.store.store import Store
from tests.e2e.driver import GPUJOB, Gpujob

pytestmark = pytest.mark.process


def test_a_controller_fires_what_is_due_runs_it_and_tells(gpujob: Gpujob) -> None:
    job = gpujob.job("nightly", run="python -c \"import os; print(os.environ['EPOCHS'])\"")
    told = gpujob.root / "told.json"
    cron = ("--cron", "0 0 1 1 *", "--command", f"tee {told}")
    added = gpujob("schedule", "add", str(job), *cron, "--", "-e", "EPOCHS=3")
    assert (added.returncode, added.stdout) == (0, "nightly\n"), added.stderr
    _come_now(gpujob)
    with subprocess.Popen([GPUJOB, "controller"], env=gpujob.environment, stderr=subprocess.DEVNULL) as controller:
        try:
            deadline = time.monotonic() + 60
            while not (runs := gpujob.json("ps")) and time.monotonic() < deadline:
                time.sleep(0.2)
            shown = gpujob.wait(runs[0]["id"])
            while not (told.exists() and told.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.2)
        finally:
            os.kill(controller.pid, signal.SIGTERM)
            assert controller.wait(60) == 0
    assert (shown["outcome"], gpujob.log(shown["id"])) == ("succeeded", b"3\n")
    [firing] = gpujob.json("schedule", "show", "nightly")["firings"]
    assert (firing["kind"], firing["run_id"]) == ("fired", shown["id"])
    assert shown["schedule"]["planned_at"] == firing["planned_at"]
    assert json.loads(told.read_text())["text"] == f"gpujob: nightly {shown['id']}: succeeded, $0.00"
    assert gpujob.leftovers() == []


def _come_now(gpujob: Gpujob) -> None:
    """As if it were new year."""
    store = Store.open(Home(gpujob.home).database_url({}))
    [row] = store.timetable.schedules()
    at = store.now() - timedelta(seconds=1)
    store.timetable.resume(row.id, planned_at=at, due_at=at)
    store.close()
