"""A machine against us, with the real controller: it prints without end, answers nonsense, or is another one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.driver import Gpujob
from tests.providers.inventories import entry
from tests.support.sshd import Sshd, running_sshd

pytestmark = [pytest.mark.process, pytest.mark.sshd]

ON_SSH: dict[str, Any] = {"place": {"providers": ["ssh"]}}
SECRET = "hf_never_to_be_seen_elsewhere"


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "tower") as server:
        yield server


@pytest.fixture
def on_tower(tower: Sshd, gpujob: Gpujob) -> Gpujob:
    gpujob.home.mkdir(mode=0o700)
    gpujob.env["TOKEN"] = SECRET
    (gpujob.home / "hosts.toml").write_text(entry(tower, directory=gpujob.root / "machines", price_per_hour="3.60"))
    return gpujob


def machine_folder(gpujob: Gpujob) -> Path:
    [found] = [path for path in (gpujob.root / "machines").glob("*/") if not path.name.startswith(".")]
    return found


def test_a_job_that_prints_without_end_leaves_room_for_the_store(small_home: None, gpujob: Gpujob) -> None:
    """Its log stops before the disk is full; the run waits, is shown, and can be cancelled."""
    run = gpujob.submit(gpujob.job(run="exec yes"))
    gpujob.until(run, lambda _: "no room on this computer" in gpujob("show", run, "--events").stdout)
    disk = os.statvfs(gpujob.home)
    assert disk.f_bavail * disk.f_frsize > 200_000, "some of the eight megabytes is left to others"
    assert gpujob("ps").returncode == 0
    assert gpujob("cancel", "--wait", run).returncode == 0
    assert gpujob.show(run)["outcome"] == "cancelled"
    assert gpujob.leftovers() == []


def test_records_that_make_no_sense_are_waited_out(on_tower: Gpujob) -> None:
    """Written over the agent's own for two seconds; the agent's are read when they are back."""
    gpujob = on_tower
    count = f"echo line 1; {gpujob.held}; for i in $(seq 2 40); do echo line $i; sleep 0.1; done"
    job = gpujob.job(run=f"{count}; mkdir o; echo whole > o/file", artifacts=["o/*"], **ON_SSH)
    run = gpujob.submit(job)
    log = gpujob.home / "runs" / run / "attempts/1/log"
    gpujob.until(run, lambda _: log.exists() and b"line 1\n" in log.read_bytes())
    state = machine_folder(gpujob) / "state.json"
    gpujob.let_go()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for nonsense in ("[" * 60_000, '{"beat": NaN, "phase": {"a": []}}', "\x00" * 70_000):
            state.with_name("nonsense").write_text(nonsense)
            state.with_name("nonsense").replace(state)
            time.sleep(0.02)
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded", shown
    assert "internal error" not in gpujob("show", run, "--events").stdout
    assert gpujob.log(run) == b"".join(b"line %d\n" % number for number in range(1, 41))


def test_an_exit_record_of_other_types_is_no_success(on_tower: Gpujob) -> None:
    gpujob = on_tower
    run = gpujob.submit(gpujob.job(run="sleep 60", **ON_SSH))
    gpujob.until(run, lambda shown: shown["phase"] == "watch")
    record = machine_folder(gpujob) / "exit.json"
    record.with_name("nonsense").write_text('{"reason": "exited", "exit_code": false, "detail": ["\\u001b[2J"]}')
    record.with_name("nonsense").replace(record)
    shown = gpujob.wait(run)
    assert (shown["outcome"], shown["exit_code"]) == ("failed", None), shown
    assert "internal error" not in gpujob("show", run, "--events").stdout


def test_another_machine_at_the_address_gets_neither_files_nor_secrets(on_tower: Gpujob, tower: Sshd) -> None:
    """It would let us in, as the first one did; it is left before it is told who we are."""
    gpujob = on_tower
    first = gpujob.submit(gpujob.job(run="echo $TOKEN", secrets=["TOKEN"], **ON_SSH))
    assert gpujob.wait(first)["outcome"] == "succeeded"
    tower.new_host_key()
    tower.log.write_text("")
    refused = gpujob("submit", str(gpujob.job(run="echo $TOKEN", secrets=["TOKEN"], **ON_SSH)))
    assert refused.returncode == 11 and "another host key" in refused.stderr
    said = tower.log.read_text()
    assert "Accepted" not in said, said
    assert SECRET not in said
    assert not [path for path in (gpujob.root / "machines").glob("*/") if not path.name.startswith(".")]
