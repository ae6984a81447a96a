"""A job on a computer of the user's own behind a real sshd: what comes back and what it bills, come what may."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.transport import keys
from tests.e2e.driver import Gpujob
from tests.providers.inventories import entry
from tests.support.sshd import Sshd, running_sshd

pytestmark = [pytest.mark.process, pytest.mark.sshd]

TRAIN = """
import json, os, pathlib
for step in range(3):
    print(f"step {step}", flush=True)
    with open(os.environ["GPUJOB_METRICS"], "a") as metrics:
        metrics.write(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\\n")
pathlib.Path("outputs").mkdir()
pathlib.Path("outputs/model.bin").write_bytes(bytes(range(256)) * 4)
"""
COUNT = "echo line 1; {held}; for i in $(seq 2 {lines}); do echo line $i; sleep 0.1; done; mkdir o; echo whole > o/file"
ON_SSH: dict[str, Any] = {"place": {"providers": ["ssh"]}}


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "tower") as server:
        yield server


@pytest.fixture
def gpujob(tower: Sshd, gpujob: Gpujob) -> Iterator[Gpujob]:
    """Its inventory has the tower alone, which costs a tenth of a cent per second."""
    gpujob.home.mkdir(mode=0o700)
    declare(gpujob, entry(tower, directory=gpujob.home / "tower", price_per_hour="3.60"))
    yield gpujob
    assert machines(gpujob) == []


def declare(gpujob: Gpujob, *hosts: str) -> None:
    (gpujob.home / "hosts.toml").write_text("\n".join(hosts))


def machines(gpujob: Gpujob, host: str = "tower") -> list[str]:
    """Machine directories that are still on the computer."""
    return [path.name for path in (gpujob.home / host).glob("*/") if not path.name.startswith(".")]


def counted(lines: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(1, lines + 1))


def count_to(gpujob: Gpujob, lines: int) -> str:
    """A run that writes a line every tenth of a second. One is here, and it waits to be let go."""
    spec = gpujob.job(run=COUNT.format(lines=lines, held=gpujob.held), artifacts=["o/*"], **ON_SSH)
    run = gpujob.submit(spec)
    log = gpujob.home / "runs" / run / "attempts/1/log"
    gpujob.until(run, lambda _: log.exists() and b"line 1\n" in log.read_bytes())
    return run


def came_through(gpujob: Gpujob, run: str, lines: int) -> None:
    shown = gpujob.wait(run)
    assert shown["outcome"] == "succeeded", shown
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded"]
    assert gpujob.log(run) == counted(lines)
    assert (gpujob.home / "runs" / run / "artifacts/o/file").read_text() == "whole\n"


def story(gpujob: Gpujob, run: str) -> str:
    return gpujob("show", run, "--events").stdout


def test_the_main_job(gpujob: Gpujob) -> None:
    spec = gpujob.job(files={"train.py": TRAIN}, run="python train.py; sleep 2", artifacts=["outputs/**"])
    done = gpujob("submit", str(spec), "--provider", "ssh")
    assert (done.returncode, done.stdout) == (0, "step 0\nstep 1\nstep 2\n"), done.stderr
    [row] = gpujob.json("ps")
    shown = gpujob.show(row["id"])
    assert (shown["outcome"], shown["provider"]) == ("succeeded", "ssh")
    assert shown["metrics"] == {"loss": pytest.approx(1 / 3)}
    model = gpujob.home / "runs" / row["id"] / "artifacts/outputs/model.bin"
    assert model.read_bytes() == bytes(range(256)) * 4
    assert "succeeded" in Path(shown["report"]).read_text()
    [bill] = [json.loads(line) for line in (gpujob.home / "tower/bill.jsonl").read_text().splitlines()]
    seconds = Decimal(str(bill["end"])) - Decimal(str(bill["start"]))
    total = sum((Decimal(row["amount_usd"]) for row in gpujob.json("cost", row["id"])), Decimal(0))
    assert Decimal(shown["cost_usd"]) == total >= Decimal("0.002")
    assert abs(total - seconds * Decimal("0.001")) <= Decimal("0.001"), "the ledger is the host's own bill"
    assert machines(gpujob) == []
    assert gpujob.leftovers() == []


def test_connections_that_break_lose_no_line(gpujob: Gpujob, tower: Sshd) -> None:
    run = count_to(gpujob, 60)
    gpujob.let_go()
    for _ in range(3):
        tower.cut()
        time.sleep(0.5)
    tower.stop()
    time.sleep(2)
    tower.start()
    came_through(gpujob, run, 60)


def test_a_job_that_ends_while_its_host_is_out_of_reach(gpujob: Gpujob, tower: Sshd) -> None:
    run = count_to(gpujob, 15)
    tower.stop()
    gpujob.until(run, lambda _: "the machine does not answer" in story(gpujob, run))
    gpujob.let_go()
    time.sleep(2)
    tower.start()
    came_through(gpujob, run, 15)


def test_a_host_that_hangs_for_a_while(gpujob: Gpujob, tower: Sshd) -> None:
    run = count_to(gpujob, 40)
    gpujob.let_go()
    tower.hang()
    time.sleep(5)
    tower.resume()
    came_through(gpujob, run, 40)


def test_another_computer_at_the_address_gets_nothing(gpujob: Gpujob, tower: Sshd) -> None:
    """Its key is not the one seen first: it is refused and said; when the right one is back, all goes on."""
    run = count_to(gpujob, 40)
    own_key = (tower.folder / "host_key").read_bytes()
    tower.new_host_key()
    gpujob.until(run, lambda _: "host key" in story(gpujob, run))
    tower.stop()
    (tower.folder / "host_key").write_bytes(own_key)
    tower.start()
    gpujob.let_go()
    came_through(gpujob, run, 40)


def test_a_host_key_that_changed_between_two_runs_is_refused(gpujob: Gpujob, tower: Sshd) -> None:
    gpujob.wait(gpujob.submit(gpujob.job(**ON_SSH)))
    tower.new_host_key()
    refused = gpujob("submit", str(gpujob.job(**ON_SSH)))
    assert refused.returncode == 11, refused.stderr
    assert "another host key" in refused.stderr and "remove tower from hosts_seen.json" in refused.stderr
    (gpujob.home / "hosts_seen.json").unlink()
    assert gpujob("submit", str(gpujob.job(**ON_SSH))).returncode == 0


def test_a_key_that_is_not_let_in(gpujob: Gpujob, tower: Sshd) -> None:
    other = gpujob.root / "other_key"
    keys.ensure(other)
    declare(gpujob, entry(tower, key=other, directory=gpujob.home / "tower"))
    refused = gpujob("submit", str(gpujob.job(**ON_SSH)))
    assert refused.returncode == 11, refused.stderr
    assert "~/.ssh/authorized_keys" in refused.stderr
    [row] = gpujob.json("ps")
    assert (row["outcome"], row["possibly_billing"]) == ("refused", False)


def test_a_host_that_is_off(gpujob: Gpujob, tower: Sshd) -> None:
    tower.stop()
    refused = gpujob("submit", str(gpujob.job(**ON_SSH)))
    assert refused.returncode == 10, refused.stderr
    assert f"{tower.host}:{tower.port}" in refused.stderr and "Connection refused" in refused.stderr
    [row] = gpujob.json("ps")
    assert (row["outcome"], row["possibly_billing"], row["cost_usd"]) == ("no_capacity", False, "0")


def test_a_host_that_is_off_is_passed_over(gpujob: Gpujob, tower: Sshd) -> None:
    with running_sshd(gpujob.root) as off:
        off.stop()
        declare(
            gpujob,
            entry(off, name="off", directory=gpujob.home / "off", price_per_hour="0.01"),
            entry(tower, directory=gpujob.home / "tower", price_per_hour="3.60"),
        )
        shown = gpujob.wait(gpujob.submit(gpujob.job(**ON_SSH)))
        assert shown["outcome"] == "succeeded", shown
        assert [attempt["offer"]["region"] for attempt in shown["attempts"]] == ["tower"]


def test_the_cheapest_of_two_hosts(gpujob: Gpujob, tower: Sshd) -> None:
    declare(
        gpujob,
        entry(tower, directory=gpujob.home / "tower", price_per_hour="0.50"),
        entry(tower, name="attic", directory=gpujob.home / "attic", price_per_hour="0.20"),
    )
    shown = gpujob.wait(gpujob.submit(gpujob.job(**ON_SSH)))
    [attempt] = shown["attempts"]
    assert (attempt["offer"]["region"], attempt["usd_per_hour"]) == ("attic", "0.2")
    assert (gpujob.home / "attic/bill.jsonl").exists() and machines(gpujob, "attic") == []


def test_exec_runs_beside_the_job(gpujob: Gpujob) -> None:
    run = count_to(gpujob, 30)
    done = gpujob("exec", run, "--", "sh", "-c", "basename $PWD; cat train.yaml | wc -l; exit 7")
    assert (done.returncode, done.stdout.split()[:1]) == (7, ["work"]), done.stderr
    gpujob.let_go()
    came_through(gpujob, run, 30)


def test_cancel_ends_the_job_there(gpujob: Gpujob) -> None:
    polite = (
        "import signal, sys, time\n"
        "def stop(*_): print('saved', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    run = gpujob.submit(gpujob.job(files={"polite.py": polite}, run="python polite.py", **ON_SSH))
    gpujob.until(run, lambda _: (gpujob.home / "runs" / run / "attempts/1/log").exists())
    assert gpujob("cancel", "--wait", run).returncode == 0
    assert gpujob.show(run)["outcome"] == "cancelled"
    assert gpujob.log(run) == b"ready\nsaved\n"
    assert gpujob.leftovers() == []


def test_a_mistake_in_the_inventory_is_named(gpujob: Gpujob) -> None:
    declare(gpujob, "[[host]]", 'host = "10.0.0.9"', 'user = "me"', 'prise_per_hour = "1"')
    refused = gpujob("submit", str(gpujob.job(**ON_SSH)), "--dry-run")
    assert refused.returncode != 0
    assert "hosts.toml" in refused.stderr and "did you mean price_per_hour?" in refused.stderr
