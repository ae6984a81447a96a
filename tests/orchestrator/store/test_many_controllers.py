"""Several controllers on one store: no run twice, none lost, also when one of them dies."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.records import Phase
from orchestrator.store.store import LeaseLost, Store
from tests.orchestrator.store.examples import a_run

pytestmark = pytest.mark.process


def test_threads_never_share_a_run(url: str) -> None:
    store = Store.open(url)
    for number in range(120):
        store.add_run(a_run(f"r-{number:03}"))

    def claim(controller: int) -> list[str]:
        own: list[str] = []
        while leases := store.claim(f"c{controller}", limit=7, lease_seconds=60):
            own += [lease.run.id for lease in leases]
        return own

    with ThreadPoolExecutor(8) as threads:
        claimed = Counter(run_id for own in threads.map(claim, range(8)) for run_id in own)
    # On PostgreSQL a claim may find all that is left locked by others for a moment, and give up early.
    claimed.update(claim(8))
    assert claimed == Counter(f"r-{number:03}" for number in range(120))
    store.close()


def test_cancels_and_nudges_are_never_lost_between_saves(url: str) -> None:
    store = Store.open(url)
    for number in range(40):
        store.add_run(a_run(f"r-{number:02}"))
    leases = store.claim("c1", limit=40, lease_seconds=60)
    with ThreadPoolExecutor(8) as threads:
        saves = [threads.submit(store.save, lease, lease.run, due_in=3600) for lease in leases]
        cancels = [threads.submit(store.request_cancel, lease.run.id) for lease in leases]
        assert all(cancel.result() for cancel in cancels)
        assert all(save.result() for save in saves)
    due = store.claim("c2", limit=99, lease_seconds=60)
    assert len(due) == 40
    assert all(lease.run.cancel_requested_at for lease in due)
    store.close()


def test_a_controller_dies_and_the_others_finish_its_runs(url: str) -> None:
    store = Store.open(url)
    runs = [f"r-{number:02}" for number in range(30)]
    for run_id in runs:
        store.add_run(a_run(run_id))
    victim, *others = workers = [_worker(url, "victim", "20"), _worker(url, "c1"), _worker(url, "c2")]
    assert [_line(worker) for worker in workers] == ["ready"] * 3
    _go(victim)
    held = _line(victim).removeprefix("holding ")
    for other in others:
        _go(other)
    victim.kill()
    victim.communicate()
    for other in others:
        assert other.communicate(timeout=120) == ("", "")
        assert other.returncode == 0

    assert {run.phase for run in store.runs()} == {Phase.DONE}
    for run_id in runs:
        assert [event.phase for event in store.events(run_id)] == list(Phase)[1:]
    finishers = {event.text for event in store.events(held) if event.phase is Phase.DONE}
    assert finishers < {"c1", "c2"}
    store.close()


def test_a_controller_that_slept_through_its_lease_writes_nothing(url: str) -> None:
    store = Store.open(url)
    store.add_run(a_run())
    (slow,) = store.claim("slow", limit=1, lease_seconds=-1)
    (quick,) = store.claim("quick", limit=1, lease_seconds=60)
    with pytest.raises(LeaseLost):
        store.save(slow, slow.run, due_in=None)
    store.save(quick, quick.run, due_in=None)
    store.close()


def _worker(*arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.orchestrator.store.worker", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().rstrip()


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
