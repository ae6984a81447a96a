"""Many rounds at once: each worker is a process with three clouds of its own, which gets one seed after the other.

The main process imports everything once and forks, while it has no thread, first all starters and then all workers.
"""

from __future__ import annotations

import importlib
import os
import pickle
import selectors
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.clouds import Clouds
from tests.chaos.judging import Problem
from tests.chaos.plans import CLOUDS, draw
from tests.chaos.rounds import Result, Round
from tests.chaos.starter import Starter, import_everything

_OF_CLOUDS = (
    "moto.ec2.models",
    "moto.moto_server.werkzeug_app",
    "providers.rehearsal.aws.cloud",
    "providers.rehearsal.runpod.cloud",
    "providers.rehearsal.vast.cloud",
    "providers.rehearsal.web",
)


def run_all(
    seeds: Sequence[int],
    *,
    at_once: int,
    folder: Path,
    clouds: Sequence[str] = CLOUDS,
    is_blind: bool = False,
    keep_all: bool = False,
) -> Iterator[Result]:
    """Each result as it comes. A worker that dies is an error of the harness: RuntimeError."""
    import_everything()
    starters: list[Starter] = []
    for _ in range(min(at_once, len(seeds))):
        starters.append(Starter(starters))
    _import_clouds()
    ends: list[_Worker] = []
    while starters:  # each belongs to its worker then
        ends.append(_Worker(ends, starters, _Work(folder, clouds, is_blind, keep_all)))
    left = list(reversed(seeds))
    with selectors.DefaultSelector() as selector:
        for worker in ends:
            selector.register(worker.end, selectors.EVENT_READ, worker)
            worker.give(left.pop())
        busy = len(ends)
        while busy:
            for key, _ in selector.select():
                worker = key.data
                yield worker.take()
                if left:
                    worker.give(left.pop())
                else:
                    selector.unregister(worker.end)
                    worker.close()
                    busy -= 1
    for worker in ends:
        os.waitpid(worker.pid, 0)


class _Worker:
    """The near end of one. Nothing inherited keeps another one alive: a worker ends when its near end closes."""

    def __init__(self, others: Sequence[_Worker], starters: list[Starter], work: _Work) -> None:
        self.end, far = socket.socketpair()
        sys.stdout.flush()
        starter = starters.pop()
        self.pid = os.fork()
        if self.pid == 0:
            self.end.close()
            for other in others:
                other.close()
            for unused in starters:
                unused.close()
            work.serve(far, starter)
        far.close()
        starter.close()
        self._stream = self.end.makefile("rwb")

    def give(self, seed: int) -> None:
        self._stream.write(b"%d\n" % seed)
        self._stream.flush()

    def take(self) -> Result:
        try:
            found = pickle.load(self._stream)
        except EOFError:
            raise RuntimeError(f"worker {self.pid} died") from None
        assert isinstance(found, Result)
        return found

    def close(self) -> None:
        self._stream.close()
        self.end.close()


class _Work:
    """The far end."""

    def __init__(self, folder: Path, clouds: Sequence[str], is_blind: bool, keep_all: bool) -> None:
        self._folder, self._names = folder, clouds
        self._is_blind, self._keep_all = is_blind, keep_all

    def serve(self, far: socket.socket, starter: Starter) -> None:
        """Until the near end closes. Never returns."""
        clouds = Clouds(self._names)
        try:
            with far.makefile("rb") as words:
                for word in words:
                    found = self._round(int(word), clouds, starter)
                    if found.problems:
                        clouds.close()  # what it left must not be met by the next round
                        clouds = Clouds(self._names)
                    with suppress(BrokenPipeError):
                        far.sendall(pickle.dumps(found))
        finally:
            clouds.close()
            os._exit(0)

    def _round(self, seed: int, clouds: Clouds, starter: Starter) -> Result:
        folder = self._folder / f"seed-{seed}"
        plan = draw(seed, self._names)
        try:
            result = Round(plan, clouds, starter, folder, is_blind=self._is_blind).run()
        except Exception:
            problem = Problem("harness", traceback.format_exc())
            return Result(seed=seed, cloud=plan.cloud, problems=(problem,), plan=str(plan))
        if not (result.problems or self._keep_all):
            shutil.rmtree(folder, ignore_errors=True)
        return result


def _import_clouds() -> None:
    """moto takes its time. No cloud is made here, so no thread is started."""
    for module in _OF_CLOUDS:
        importlib.import_module(module)


def progress(results: Iterator[Result], total: int) -> list[Result]:
    """All of them; each is told on stderr."""
    found, began = [], time.monotonic()
    for result in results:
        found.append(result)
        wrong = "; ".join(f"{problem.kind}: {problem.text}" for problem in result.problems)
        state = f"FAILED {wrong}\n    {result.plan}" if wrong else result.outcome
        sys.stderr.write(
            f"{time.monotonic() - began:6.0f} s  {len(found)}/{total}  seed {result.seed}  {result.cloud:<6} "
            f"{result.seconds:5.1f} s  {state}\n"
        )
    return found
