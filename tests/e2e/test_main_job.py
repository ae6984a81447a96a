"""A job from YAML to metrics, artifacts, a report and a bill, on this machine, through the command line alone."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.e2e.driver import Gpujob

pytestmark = pytest.mark.process

TRAIN = """
import json, os, pathlib
for step in range(5):
    print(f"step {step} loss={1 / (step + 1):.3f}", flush=True)
    with open(os.environ["GPUJOB_METRICS"], "a") as metrics:
        metrics.write(json.dumps({"step": step, "accuracy": step / 5}) + "\\n")
pathlib.Path("outputs").mkdir()
pathlib.Path("outputs/model.bin").write_bytes(bytes(range(256)) * 4)
print("\\N{GREEK SMALL LETTER ALPHA} done")
"""


def test_a_job_brings_back_all_it_made(gpujob: Gpujob) -> None:
    spec = gpujob.job(
        files={"train.py": TRAIN},
        run="python train.py",
        artifacts=["outputs/**"],
        metrics={"patterns": {"loss": "loss=([0-9.]+)"}},
    )
    done = gpujob("submit", str(spec))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("step 0 loss=1.000\n") and done.stdout.endswith("α done\n")
    [row] = gpujob.json("ps")
    shown = gpujob.show(row["id"])
    assert (shown["outcome"], shown["exit_code"], shown["phase"]) == ("succeeded", 0, "done")
    assert shown["metrics"] == {"accuracy": 0.8, "loss": 0.2}
    assert [(a["path"], a["bytes"]) for a in shown["artifacts"]] == [("outputs/model.bin", 1024)]
    [attempt] = shown["attempts"]
    assert attempt["outcome"] == "succeeded" and attempt["gone_at"] is not None
    folder = gpujob.home / "runs" / row["id"]
    assert (folder / "artifacts/outputs/model.bin").read_bytes() == bytes(range(256)) * 4
    assert "succeeded" in (folder / "report.html").read_text()
    assert not (folder / "key").exists()
    assert gpujob.leftovers() == []


def test_the_users_own_machine_has_a_price(gpujob: Gpujob) -> None:
    gpujob.home.mkdir()
    (gpujob.home / "config.toml").write_text('[local]\nprice_per_hour = "3.60"\n')
    run = gpujob.submit(gpujob.job(run="sleep 2"))
    shown = gpujob.wait(run)
    charges = gpujob.json("cost", run)
    total = sum((Decimal(row["amount_usd"]) for row in charges), Decimal(0))
    assert Decimal(shown["cost_usd"]) == total
    assert Decimal("0.002") <= total <= Decimal("0.02"), "two seconds and a little more at a tenth of a cent each"
    assert {row["meter"] for row in charges} == {"compute"}
    [bill] = [json.loads(line) for line in (gpujob.home / "machines/bill.jsonl").read_text().splitlines()]
    seconds = Decimal(str(bill["end"])) - Decimal(str(bill["start"]))
    assert abs(total - seconds * Decimal("0.001")) <= Decimal("0.001"), "the ledger is the machine's own bill"


def test_python_api(gpujob: Gpujob, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpujob as api

    monkeypatch.setenv("GPUJOB_HOME", str(gpujob.home))
    patterns = {"patterns": {"loss": "loss=([0-9.]+)"}}
    spec = gpujob.job(files={"train.py": TRAIN}, run="python train.py", artifacts=["outputs/**"], metrics=patterns)
    run = api.submit(spec, provider="local")
    run.wait(timeout=60)
    assert run.status == "succeeded"
    assert run.metrics()["loss"][-1] == (5, 0.2)
    [artifact] = run.artifacts()
    assert artifact.path.read_bytes()[:3] == b"\0\1\2"
    assert run.cost() == Decimal(0)
    assert "succeeded" in run._repr_html_()
