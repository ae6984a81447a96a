"""The job itself: what it writes is what the harness expects, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import job


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_what_it_writes(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = job.run(seed=7, lines=25, seconds=1.0, files=[0, 1, 70_000], exit_code=7, checkpointed=False)
    assert code == 7
    assert capfd.readouterr().out.encode() == job.log(7, 25)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {f"{number}.bin": job.content(7, number, size) for number, size in enumerate((0, 1, 70_000), 1)}
    assert [len(content) for content in found.values()].count(70_000) == 1


def test_it_goes_on_from_its_checkpoint(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "line").write_text("12")
    job.run(seed=7, lines=25, seconds=1.0, files=[], exit_code=0, checkpointed=True)
    assert capfd.readouterr().out.encode() == job.log(7, 25, begun=12)
    assert (tmp_path / "checkpoints" / "line").read_text() == "24"


def test_another_seed_is_another_job() -> None:
    assert job.log(1, 5) != job.log(2, 5)
    assert job.content(1, 1, 100) != job.content(1, 2, 100)
