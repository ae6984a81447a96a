"""Every report of a job becomes exactly one point: whatever the bytes, however they are cut, whenever we are killed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from jobs import metrics
from jobs.metrics import MetricsFile, Point, last, pattern_problem, points, series, without_escapes

NOW = 1_700_000_000.0
PATTERNS = {"loss": r"loss=([-+.0-9e]+)", "epoch": r"[Ee]poch (\d+)"}


class Job:
    """A run's folder with a log and a metrics file of each attempt."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = MetricsFile(root / "metrics.jsonl")

    def writes(self, *, log: bytes = b"", metrics: bytes = b"", attempt: int = 1) -> Job:
        for name, content in (("log", log), ("metrics", metrics)):
            with (self.root / f"{name}{attempt}").open("ab") as file:
                file.write(content)
        return self

    def read(self, patterns: Mapping[str, str] = {}, *, attempt: int = 1, final: bool = False, now: float = NOW) -> int:
        log, reported = self.root / f"log{attempt}", self.root / f"metrics{attempt}"
        return self.file.advance(attempt, log, reported, patterns, final=final, now=now)

    @property
    def points(self) -> list[Point]:
        return list(points(self.root / "metrics.jsonl"))

    @property
    def values(self) -> list[tuple[str, float | None, float]]:
        return [(point.name, point.step, point.value) for point in self.points]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"step": 10, "loss": 0.3, "acc": 1}', [("loss", 10, 0.3), ("acc", 10, 1.0)]),
        ('{"name": "loss", "value": 0.3, "step": 1}', [("loss", 1, 0.3)]),
        ('{"epoch": 2, "loss": 0.3}', [("loss", 2, 0.3)]),
        ('{"epoch": 2, "step": 7, "loss": 0.3}', [("epoch", 7, 2.0), ("loss", 7, 0.3)]),
        ('{"loss": 0.3}', [("loss", None, 0.3)]),
        ('{"step": 1, "loss": NaN, "big": Infinity, "small": -Infinity, "acc": 0.5}', [("acc", 1, 0.5)]),
        ('{"step": 1, "on": true, "note": "good", "none": null, "all": [1], "sub": {"a": 1}}', []),
        ('{"step": 1, "huge": 1' + "0" * 400 + "}", []),
        ('{"step": "ten", "loss": 1}', [("loss", None, 1.0)]),
        ('{"step": true, "loss": 1}', [("loss", None, 1.0)]),
        ('{"step": 1, "' + "n" * 201 + '": 1, "": 2}', []),
        ('{"step": 1, "\\u2028\\n<b>": 1}', [("\u2028\n<b>", 1, 1.0)]),
        ("[1, 2]", []),
        ("0.5", []),
        ("[" * 60_000, []),
        ("1" * 5_000, []),
        ("not json", []),
        ("", []),
        ('{"step": 1, "pad": "' + "x" * 70_000 + '", "loss": 1}', []),
    ],
)
def test_a_line_of_the_metrics_file(job: Job, line: str, expected: list[tuple[str, float | None, float]]) -> None:
    job.writes(metrics=line.encode() + b'\n{"step": 99, "after": 1}\n').read()
    assert job.values == [*expected, ("after", 99, 1.0)]


def test_bytes_that_are_not_text_do_no_harm(job: Job) -> None:
    job.writes(metrics=bytes(range(256)) + b'\n{"loss": 1}\r\n', log=bytes(range(256)) * 9).read(PATTERNS, final=True)
    assert job.values == [("loss", None, 1.0)]


def test_time_is_the_lines_own_or_that_of_the_visit(job: Job) -> None:
    job.writes(metrics=b'{"time": 1690000000.1, "a": 1}\n{"b": 1}\n{"time": "noon", "c": 1}\n').read()
    assert [(point.name, point.time) for point in job.points] == [("a", 1690000000.1), ("b", NOW), ("c", NOW)]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"loss=0.5\nloss=0.4\n", [("loss", 1, 0.5), ("loss", 2, 0.4)]),
        (b"Epoch 3 loss=0.5\n", [("loss", 3, 0.5)]),
        (b"Epoch 3\nloss=0.5\n", [("loss", 1, 0.5)]),
        (b"Epoch 1 loss=0.9\rEpoch 2 loss=0.8\r\n", [("loss", 1, 0.9), ("loss", 2, 0.8)]),
        (b"\x1b[32mloss=\x1b[1m0.5\x1b[0m\n", [("loss", 1, 0.5)]),
        (b"loss=1e-3\nloss=..\nloss=1e999\n", [("loss", 1, 0.001)]),
        (b"x" * 5000 + b" loss=0.5\nloss=0.4\n", [("loss", 1, 0.4)]),
    ],
)
def test_patterns(job: Job, log: bytes, expected: list[tuple[str, float | None, float]]) -> None:
    job.writes(log=log).read(PATTERNS)
    assert job.values == expected
    assert {point.source for point in job.points} == {"pattern"}


def test_ordinals_go_on_in_a_second_attempt_so_that_nothing_is_overwritten(job: Job) -> None:
    job.writes(log=b"loss=3\nloss=2\n").read(PATTERNS, final=True)
    job.writes(log=b"loss=1\n", attempt=2).read(PATTERNS, attempt=2)
    assert [point.value for point in series(job.root / "metrics.jsonl")["loss"]] == [3.0, 2.0, 1.0]


def test_mlperf_lines(job: Job) -> None:
    event = {"namespace": "", "time_ms": 1690000000500, "event_type": "POINT_IN_TIME"}
    event |= {"key": "eval_accuracy", "value": 0.75}
    lines = [
        {**event, "metadata": {"file": "train.py", "epoch_num": 4}},
        {**event, "key": "run_start", "value": None, "metadata": None},
        {**event, "key": "submission_benchmark", "value": "resnet"},
        {**event, "key": "eval_stop", "value": True},
        {**event, "key": "global_batch_size", "value": 256},
    ]
    log = "".join(f"rank0: :::MLLOG {json.dumps(line)}\n" for line in lines) + ":::MLLOG oops\n:::MLLOG"
    job.writes(log=log.encode()).read(final=True)
    assert job.points == [
        Point(1690000000.5, 4.0, "eval_accuracy", 0.75, 1, "mllog"),
        Point(1690000000.5, None, "global_batch_size", 256.0, 1, "mllog"),
    ]
    assert job.file.skipped == {"not a JSON object": 2}


def test_what_could_not_be_used_is_counted(job: Job) -> None:
    job.writes(metrics=b'oops\n{"a": NaN}\n').read()
    job.writes(metrics=b'{"a": Infinity}\n').read()
    assert job.file.skipped == {"not a JSON object": 1, "not finite": 2}


def test_a_half_line_waits_for_its_end_or_for_the_last_visit(job: Job) -> None:
    job.writes(metrics=b'{"a": 1}\n{"a": 2', log=b"loss=1").read(PATTERNS)
    assert job.values == [("a", None, 1.0)]
    job.writes(metrics=b"5}").read(PATTERNS)
    assert job.values == [("a", None, 1.0)]
    assert job.read(PATTERNS, final=True) == 2
    assert job.values[1:] == [("a", None, 25.0), ("loss", 1.0, 1.0)]
    assert job.read(PATTERNS, final=True) == 0


def test_files_that_are_not_there(job: Job) -> None:
    assert job.read(PATTERNS, final=True) == 0
    assert job.points == []
    assert not last(job.root / "metrics.jsonl")
    assert not series(job.root / "metrics.jsonl")


METRICS = '{"step": 1, "loss": 0.5}\nnoise\n{"step": 2, "loss": 0.25, "acc": 0.9}\r\n{"step": 3, "größe": 1}'.encode()
MLLOG = b':::MLLOG {"key": "k", "value": 1}\n'
LOG = b"Epoch 1 loss=1\rEpoch 2 loss=2\r\nplain\n" + MLLOG + b"loss=7\n" + b"z" * 300 + b"\nloss=8"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_BLOCK", 128)


def _whole(root: Path) -> list[Point]:
    root.mkdir()
    reference = Job(root).writes(log=LOG, metrics=METRICS)
    reference.read(PATTERNS, final=True)
    return reference.points


@pytest.mark.usefixtures("small_blocks")
def test_wherever_the_files_are_cut_the_points_are_the_same(tmp_path: Path) -> None:
    expected = _whole(tmp_path / "whole")
    assert len(expected) == 9
    for cut in range(max(len(LOG), len(METRICS)) + 1):
        root = tmp_path / str(cut)
        root.mkdir()
        job = Job(root).writes(log=LOG[:cut], metrics=METRICS[:cut])
        counted = job.read(PATTERNS) + job.writes(log=LOG[cut:], metrics=METRICS[cut:]).read(PATTERNS, final=True)
        assert sorted(job.values, key=str) == sorted(((p.name, p.step, p.value) for p in expected), key=str), cut
        assert counted == len(expected)


class Killed(BaseException):
    """kill -9, at a place that a test chose."""


class Killer:
    """Dies at the nth change to the disk, which then has happened not at all, by half, or wholly."""

    def __init__(self, nth: int, how: str) -> None:
        self.left, self.how = nth, how

    def passes(self, change: Callable[[float], object]) -> None:
        self.left -= 1
        if self.left:
            change(1.0)
            return
        if self.how != "before":
            change(0.5 if self.how == "half" else 1.0)
        raise Killed

    def install(self, patch: pytest.MonkeyPatch) -> None:
        replace, write_bytes, open_path = Path.replace, Path.write_bytes, Path.open
        killer = self

        class Appending:
            def __init__(self, file: IO[bytes]) -> None:
                self.file = file

            def __enter__(self) -> Appending:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def write(self, content: bytes) -> None:
                killer.passes(lambda part: self.file.write(content[: int(len(content) * part)]))

        def opened(path: Path, mode: str = "r", *rest: Any) -> Any:
            file = open_path(path, mode, *rest)
            return Appending(file) if mode == "ab" else file

        patch.setattr(Path, "open", opened)
        patch.setattr(
            Path,
            "write_bytes",
            lambda path, content: killer.passes(lambda part: write_bytes(path, content[: int(len(content) * part)])),
        )
        patch.setattr(
            Path, "replace", lambda old, new: killer.passes(lambda part: replace(old, new) if part == 1.0 else None)
        )


def _moments() -> list[tuple[int, str]]:
    return [(nth, how) for nth in range(1, 40) for how in ("before", "half", "after")]


@pytest.mark.usefixtures("small_blocks")
def test_killed_at_any_write_and_started_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    expected = _whole(tmp_path / "whole")
    killed = 0
    for nth, how in _moments():
        root = tmp_path / f"{nth}{how}"
        root.mkdir()
        job = Job(root).writes(log=LOG, metrics=METRICS)
        with pytest.MonkeyPatch.context() as patch:
            Killer(nth, how).install(patch)
            try:
                job.read(PATTERNS, final=True)
            except Killed:
                killed += 1
        Job(root).read(PATTERNS, final=True)
        assert job.points == expected, (nth, how)
    assert 30 < killed < len(_moments()), "every write must have had its kill, and the last moments come after all"


def test_a_kill_in_a_second_attempt_leaves_the_first_alone(job: Job) -> None:
    job.writes(metrics=b'{"step": 1, "a": 1}\n').read(final=True)
    job.writes(metrics=b'{"step": 2, "a": 2}\n', attempt=2)
    with pytest.MonkeyPatch.context() as patch:
        Killer(1, "half").install(patch)
        with pytest.raises(Killed):
            job.read(attempt=2)
    job.read(attempt=2)
    assert [(point.attempt, point.value) for point in job.points] == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("damage", ["no position", "empty position", "odd position", "short file", "no file"])
def test_after_a_power_cut_the_current_attempt_is_read_again(job: Job, damage: str) -> None:
    job.writes(metrics=b'{"a": 1}\n').read(final=True)
    job.writes(metrics=b'{"a": 2}\n{"a": 3}\n', attempt=2).read(attempt=2)
    position, file = job.root / "metrics.position.json", job.root / "metrics.jsonl"
    if damage == "no position":
        position.unlink()
    elif damage == "empty position":
        position.write_bytes(b"")
    elif damage == "odd position":
        position.write_text('{"size": "all", "cursors": []}')
    elif damage == "short file":
        os.truncate(file, file.stat().st_size - 5)
    else:
        file.unlink()
    job.writes(metrics=b'{"a": 4}\n', attempt=2).read(attempt=2)
    assert [point.value for point in job.points if point.attempt == 2] == [2.0, 3.0, 4.0]
    assert [point.value for point in job.points if point.attempt == 1] == ([] if damage == "no file" else [1.0])


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_a_kill_while_recovering_leaves_earlier_attempts_alone(job: Job, nth: int, how: str) -> None:
    job.writes(metrics=b'{"a": 1}\n{"a": 2}\n').read(final=True)
    job.writes(metrics=b'{"a": 3}\n', attempt=2).read(attempt=2)
    (job.root / "metrics.position.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        Killer(nth, how).install(patch)
        with suppress(Killed):
            job.read(attempt=2)
    job.read(attempt=2)
    assert [(point.attempt, point.value) for point in job.points] == [(1, 1.0), (1, 2.0), (2, 3.0)]


def test_a_line_without_end_is_given_up_in_bounded_memory(job: Job, small_blocks: None) -> None:
    job.writes(log=b"loss=1\n" + b"y" * 1000 + b"loss=2\nloss=3\n").read(PATTERNS)
    assert [value for _, _, value in job.values] == [1.0, 3.0]
    assert job.file.skipped == {"line too long": 1}


def test_a_later_attempt_wins_where_it_did_a_step_again(job: Job) -> None:
    lines = [f'{{"step": {step}, "loss": {step}}}\n' for step in (1, 2, 3, 3)]
    job.writes(metrics="".join(lines).encode()).read(final=True)
    job.writes(metrics=b'{"step": 3, "loss": 30}\n{"step": 2, "loss": 20}\n', attempt=2).read(attempt=2)
    loss = series(job.root / "metrics.jsonl")["loss"]
    assert [(point.step, point.value) for point in loss] == [(1, 1.0), (2, 20.0), (3, 30.0)]
    assert last(job.root / "metrics.jsonl") == {"loss": 20.0}


def test_points_without_a_step_are_all_kept_in_order(job: Job) -> None:
    job.writes(metrics=b'{"loss": 3}\n{"loss": 1}\n').read(final=True)
    job.writes(metrics=b'{"loss": 2}\n', attempt=2).read(attempt=2)
    assert [point.value for point in series(job.root / "metrics.jsonl")["loss"]] == [3.0, 1.0, 2.0]


def test_a_damaged_metrics_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    good = b'{"time":1,"step":1,"name":"a","value":2.0,"attempt":1,"source":"json"}\n'
    (tmp_path / "m").write_bytes(good + b"\x00\xff\n{}\n[]\n" + good + good[:30])
    assert [point.value for point in points(tmp_path / "m")] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("regex", "problem"),
    [
        (r"loss=([0-9]+(?:\.[0-9]+)?)", None),
        (r"(?P<loss>\d+) [(+*]+ x", None),
        (r"\(\d+\)+ (\d+)", None),
        (r"loss", "0 groups"),
        (r"(a)(b)", "2 groups"),
        (r"(", "not a regular expression"),
        (r"(?:a+)+(b)", "repeats a repetition"),
        (r"((?:\w+\s*)*)=", "repeats a repetition"),
        (r"((?:(?:ab)*c){2,})", "repeats a repetition"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(regex: str, problem: str | None) -> None:
    said = pattern_problem(regex)
    assert (said is None) if problem is None else (said is not None and problem in said)


def test_a_pattern_that_cannot_be_used_is_left_out(job: Job) -> None:
    job.writes(log=b"a" * 4000 + b" loss=1\n").read({"bad": "(a+)+$", "worse": "(", "loss": r"loss=(\d+)"})
    assert job.values == [("loss", 1.0, 1.0)]


def test_random_bytes_never_crash(job: Job) -> None:
    noise = random.Random(7)
    for _ in range(50):
        job.writes(log=noise.randbytes(997), metrics=noise.randbytes(997))
        job.read(PATTERNS)
    job.writes(log=b"\nloss=5\n").read(PATTERNS)
    assert ("loss", 5.0) in [(name, value) for name, _, value in job.values]


def test_escapes_are_taken_out() -> None:
    assert without_escapes("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b(B\x1b[2K") == "red x"
