"""Following a run: every byte and event once, in order, until it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from orchestrator.follow import Happened, Output, Over, Progress, Update, follow, read_log
from orchestrator.records import Outcome, Phase
from tests.orchestrator.scene import Scene

Step = Callable[[], object]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def followed(scene: Scene, run_id: str, steps: list[Step], **options: object) -> list[Update]:
    """All updates; between two looks the next step happens instead of a pause."""
    ahead = iter(steps)
    store = scene.store()
    try:
        return list(follow(store, scene.home.run(run_id), run_id, sleep=lambda _: next(ahead)(), **options))  # type: ignore[arg-type]
    finally:
        store.close()


def written(updates: list[Update]) -> bytes:
    return b"".join(update.chunk for update in updates if isinstance(update, Output))


def test_bytes_that_come_bit_by_bit_come_once(scene: Scene) -> None:
    run = scene.active()

    def last_words() -> None:
        scene.log(run.id, 1, b"end")
        scene.move(run, phase=Phase.DONE, outcome=Outcome.SUCCEEDED)

    steps: list[Step] = [
        lambda: scene.log(run.id, 1, b"10%\r"),
        lambda: scene.log(run.id, 1, b"\xff\x00"),
        lambda: None,
        last_words,
    ]
    updates = followed(scene, run.id, steps)
    assert written(updates) == b"10%\r\xff\x00end"
    assert isinstance(updates[-1], Over) and updates[-1].run.outcome is Outcome.SUCCEEDED


def test_a_later_attempt_begins_when_the_earlier_log_is_told(scene: Scene) -> None:
    run = scene.active(attempt=1)
    scene.log(run.id, 1, b"first ")

    def next_attempt() -> None:
        scene.log(run.id, 1, b"and last words of 1\n")
        scene.move(run, attempt=2)
        scene.log(run.id, 2, b"second\n")

    updates = followed(scene, run.id, [next_attempt, lambda: scene.move(run, phase=Phase.DONE)])
    assert written(updates) == b"first and last words of 1\nsecond\n"
    assert [update.attempt for update in updates if isinstance(update, Output)] == [1, 1, 2]


def test_one_attempt_only(scene: Scene) -> None:
    run = scene.run(attempt=2)
    scene.log(run.id, 1, b"first")
    scene.log(run.id, 2, b"second")
    assert written(followed(scene, run.id, [], attempt=2)) == b"second"
    assert b"".join(output.chunk for output in read_log(scene.home.run(run.id), 2)) == b"firstsecond"


def test_an_attempt_that_wrote_nothing_is_passed_over(scene: Scene) -> None:
    run = scene.run(attempt=3)
    scene.log(run.id, 3, b"third")
    assert written(followed(scene, run.id, [])) == b"third"


def test_each_event_is_told_once(scene: Scene) -> None:
    run = scene.active(phase=Phase.BOOT)
    steps: list[Step] = [partial(scene.move, run, phase=phase) for phase in (Phase.PROBE, Phase.SHIP, Phase.DONE)]
    told = [update.event.phase for update in followed(scene, run.id, steps) if isinstance(update, Happened)]
    assert told == [Phase.PROBE, Phase.SHIP, Phase.DONE]


def test_progress_has_phase_seconds_rate_and_cost(scene: Scene) -> None:
    run = scene.active(phase_since=scene.now - timedelta(seconds=7))
    [progress, *_] = followed(scene, run.id, [lambda: scene.move(run, phase=Phase.DONE)])
    assert isinstance(progress, Progress)
    assert (progress.run.phase, progress.seconds, progress.provider) == (Phase.WATCH, 7, "vast")
    assert (str(progress.usd_per_hour), str(progress.spent)) == ("0.36", "0.6")


def test_who_waits_is_told_when_a_machine_possibly_still_bills(scene: Scene) -> None:
    run = scene.active(phase=Phase.TEARDOWN)
    updates = followed(scene, run.id, [lambda: scene.move(run, possibly_billing=True)])
    assert isinstance(updates[-1], Over) and not updates[-1].run.is_over


def test_a_run_is_looked_after_now_and_then(scene: Scene) -> None:
    run = scene.active()
    seconds: Iterator[float] = iter([0, 1, 2, 3, 4, 5, 6, 10, 10, 10, 11, 12, 13])
    looks: list[None] = []
    steps: list[Step] = [lambda: None] * 8 + [lambda: scene.move(run, phase=Phase.DONE)]
    followed(scene, run.id, steps, look_after=lambda: looks.append(None), clock=lambda: next(seconds))
    assert 2 <= len(looks) <= 3


def test_pauses_grow_while_nothing_happens(scene: Scene) -> None:
    run = scene.active()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            scene.move(run, phase=Phase.DONE)

    store = scene.store()
    list(follow(store, scene.home.run(run.id), run.id, sleep=pause))
    assert pauses == sorted(pauses) and pauses[0] <= 0.1 and pauses[-1] == 0.5


def test_whoever_comes_back_to_a_run_that_possibly_bills_sees_to_it_that_somebody_asks(scene: Scene) -> None:
    run = scene.active(possibly_billing=True)
    looked: list[bool] = []
    updates = followed(scene, run.id, [], look_after=lambda: looked.append(True))
    assert looked == [True] and isinstance(updates[-1], Over)
