"""A disk without space: of the user's computer, where store and logs are, or of the machine that the job runs on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import MEGABYTES, SmallDisk
from tests.e2e.driver import Gpujob

pytestmark = pytest.mark.process


@pytest.fixture
def gpujob(small_disk: SmallDisk, gpujob: Gpujob) -> Gpujob:
    """It is at its end before its disks are."""
    return gpujob


def fill(disk: Path) -> Path:
    """Another file takes all the space there is."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    return filler


@pytest.mark.slow
def test_the_users_disk_is_full_for_a_while(small_home: None, gpujob: Gpujob) -> None:
    """Worth its time: the job ends meanwhile, and nobody but the controller that was there can bring back its log."""
    count = "for i in $(seq 1 40); do echo line $i; sleep 0.1; done; mkdir o; echo whole > o/file"
    run = gpujob.submit(gpujob.job(run=count, artifacts=["o/*"]))
    log = gpujob.home / "runs" / run / "attempts/1/log"
    gpujob.until(run, lambda _: log.exists() and b"line 5\n" in log.read_bytes())
    filler = fill(gpujob.home)
    time.sleep(8)
    assert gpujob("ps").returncode == 0, "looking needs no space"
    filler.unlink()
    shown = gpujob.until(run, lambda shown: shown["phase"] == "done")
    assert shown["outcome"] == "succeeded", shown
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded"]
    assert gpujob.log(run) == b"".join(b"line %d\n" % number for number in range(1, 41))
    assert (gpujob.home / "runs" / run / "artifacts/o/file").read_text() == "whole\n"


@pytest.mark.parametrize("too_much", ["the store", "its files"])
def test_a_job_that_cannot_be_written_down_is_not_submitted(small_home: None, gpujob: Gpujob, too_much: str) -> None:
    assert gpujob.json("ps") == []
    spec = gpujob.job()
    if too_much == "its files":
        (spec.parent / "weights.bin").write_bytes(os.urandom(2 * MEGABYTES * 10**6))
    filler = fill(gpujob.home) if too_much == "the store" else None
    refused = gpujob("submit", str(spec), "--detach")
    assert (refused.returncode, refused.stdout) == (1, ""), refused.stderr
    assert "no space left" in refused.stderr.lower() and "Traceback" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    if filler:
        filler.unlink()
    assert gpujob.json("ps") == [] and not list((gpujob.home / "runs").glob("*"))
    (spec.parent / "weights.bin").unlink(missing_ok=True)
    assert gpujob.wait(gpujob.submit(spec))["outcome"] == "succeeded"


def test_a_job_that_fills_its_own_disk(small_disk: SmallDisk, gpujob: Gpujob) -> None:
    small_disk(gpujob.home / "machines")
    fills = "mkdir o; echo whole > o/file; echo so far; cat /dev/zero > filler"
    done = gpujob("submit", str(gpujob.job(run=fills, artifacts=["o/*"], resources={"disk": "1MB"})))
    assert (done.returncode, done.stdout[:7]) == (1, "so far\n"), done.stderr
    assert "no space left on the machine's disk" in done.stderr
    [row] = gpujob.json("ps")
    assert row["outcome"] == "failed"
    assert (gpujob.home / "runs" / row["id"] / "artifacts/o/file").read_text() == "whole\n"
    assert gpujob.leftovers() == []
