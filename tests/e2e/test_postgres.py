"""Several controllers on one real PostgreSQL: every run done once, also when a controller is killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import GPUJOB, Gpujob, nobody_serves
from tests.support.postgres import running_postgres

pytestmark = [pytest.mark.process, pytest.mark.postgres]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Gpujob]:
    (tmp_path / "pg").mkdir()
    with running_postgres(tmp_path / "pg") as url:
        yield Gpujob(tmp_path, env={"GPUJOB_DATABASE_URL": url})


@pytest.mark.slow
def test_two_controllers_fifty_runs_one_killed(shared: Gpujob) -> None:
    """Worth its time: it is the whole promise of leases, with real processes and a real server."""
    count = shared.root / "count"
    spec = shared.job(run="echo $GPUJOB_RUN_ID >> $COUNT; sleep 1", env={"COUNT": str(count)})
    with nobody_serves(shared):
        runs = [shared.submit(spec) for _ in range(50)]
        first, second = _controller(shared), _controller(shared)
        try:
            while len(_done(shared)) < 10:
                time.sleep(0.2)
            first.kill()
            deadline = time.monotonic() + 240
            while len(_done(shared)) < 50 and time.monotonic() < deadline:
                time.sleep(0.5)
        finally:
            first.kill()
            second.terminate()
            second.wait(30)
    done = _done(shared)
    assert {row["outcome"] for row in done} == {"succeeded"} and len(done) == 50
    ran = sorted(count.read_text().split())
    assert ran == sorted(runs), "every run ran once"
    assert shared.leftovers() == []


def _controller(gpujob: Gpujob) -> subprocess.Popen[bytes]:
    return subprocess.Popen([GPUJOB, "controller"], env=gpujob.environment, stderr=subprocess.DEVNULL)


def _done(gpujob: Gpujob) -> list[dict[str, object]]:
    return [row for row in gpujob.json("ps", "--limit", "100") if row["phase"] == "done"]
