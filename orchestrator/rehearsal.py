"""The simulated clouds as another process of this computer: started, spoken to, ended. Nothing of a real cloud is left.

A rehearsal has a home and an environment of its own: no key and no endpoint of a real cloud is in it, and every
endpoint that is must be this computer's. Knows the clouds' director's entrance and nothing of what is behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from providers.rehearsal.server import RehearsalError, check

START_SECONDS = 60.0
END_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_OF_CLOUDS = ("AWS_", "RUNPOD_", "VAST_", "GPUJOB_DATABASE_URL", "XDG_CONFIG_HOME")


@dataclass(frozen=True)
class Bill:
    """What one cloud says that it is owed, and what it still has."""

    cloud: str
    usd: Decimal
    machines: int
    alive: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedClouds:
    """Clouds that run. `environment` has what leads to them, and no way to a real one."""

    urls: Mapping[str, str]
    environment: Mapping[str, str]
    machines: str  # docker or process

    def bills(self) -> list[Bill]:
        """Each cloud's own, as far as it rented anything out."""
        found = []
        for cloud in self.urls:
            made = self._ask(cloud, "machines")
            usd = sum((Decimal(line["usd"]) for line in self._ask(cloud, "bill")), Decimal(0))
            alive = tuple(machine["name"] for machine in made if machine["alive"])
            if made:
                found.append(Bill(cloud, usd, len(made), alive))
        return found

    def _ask(self, cloud: str, entrance: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.urls[cloud]}/_rehearsal/{entrance}", timeout=_ANSWER_SECONDS) as answer:
                return json.load(answer)
        except OSError as error:
            raise RehearsalError(f"the simulated {cloud} does not answer: {error}") from None


@contextmanager
def simulated_clouds(
    names: Sequence[str],
    *,
    home: Path,
    env: Mapping[str, str],
    machines: str | None = None,
    faults: Path | None = None,
) -> Iterator[SimulatedClouds]:
    """Run these clouds until the end of the block; then no machine of theirs is left. Raises RehearsalError."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "providers.rehearsal", "--clouds", ",".join(names), "--until-stdin-closes"]
    argv += [*(["--machines", machines] if machines else []), *(["--faults", str(faults)] if faults else [])]
    log = home / "clouds.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, env=_own(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, start_new_session=True
        )
    try:
        yield _started(child, log, env)
    finally:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.close()
        child.stdout.close()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _started(child: subprocess.Popen[bytes], log: Path, env: Mapping[str, str]) -> SimulatedClouds:
    assert child.stdout is not None
    patience = threading.Timer(START_SECONDS, child.kill)
    patience.start()
    line = child.stdout.readline()
    patience.cancel()
    if not line:
        said = log.read_text(errors="replace").strip().splitlines()
        raise RehearsalError(f"the simulated clouds did not start: {said[-1] if said else f'see {log}'}")
    answer = json.loads(line)
    for name, cloud in answer["clouds"].items():
        check(name, cloud["environment"], _own(env))
    urls = {name: cloud["url"] for name, cloud in answer["clouds"].items()}
    return SimulatedClouds(urls, {**_own(env), **answer["environment"]}, answer["machines"])


def _own(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without any way to a real cloud."""
    return {name: value for name, value in env.items() if not name.startswith(_OF_CLOUDS)}
