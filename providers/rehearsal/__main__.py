"""`python -m providers.rehearsal`: simulated clouds until TERM or Ctrl-C. One JSON line says how to reach them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from providers.rehearsal.server import (
    CLOUDS,
    MACHINES,
    Rehearsal,
    RehearsalError,
    default_machines,
    machines_of_kind,
    read_faults,
)


def main(argv: list[str] | None = None) -> int:
    wanted = _arguments(argv)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    try:
        names = [name for name in wanted.clouds.split(",") if name]
        faults = read_faults(wanted.faults, names) if wanted.faults else {}
        machines = machines_of_kind(wanted.machines) if wanted.machines else default_machines()
        rehearsal = Rehearsal(
            names, machines=machines, speed=wanted.speed, faults=faults, latency_seconds=wanted.latency
        )
    except RehearsalError as error:
        sys.stderr.write(f"rehearsal: {error}\n")
        return 2
    with rehearsal:
        _announce(rehearsal, wanted.port_file)
        if wanted.until_stdin_closes:
            threading.Thread(target=_await_end_of_stdin, args=(over,), daemon=True).start()
        over.wait()
    if wanted.port_file:
        wanted.port_file.unlink(missing_ok=True)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m providers.rehearsal", description=__doc__)
    parser.add_argument("--clouds", default=",".join(CLOUDS), metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--machines", choices=MACHINES, help="default: docker where it answers, otherwise process")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="the clouds' clock runs X times as fast")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="that every answer takes")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="JSON: what the clouds shall do wrong")
    parser.add_argument("--port-file", type=Path, metavar="FILE", help="write the line there, too")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started this one")
    return parser.parse_args(argv)


def _announce(rehearsal: Rehearsal, port_file: Path | None) -> None:
    line: dict[str, Any] = {
        "pid": os.getpid(),
        "machines": type(rehearsal.machines).__name__.removesuffix("Machines").lower(),
        "clouds": {
            name: {"url": cloud.url, "environment": cloud.environment()} for name, cloud in rehearsal.clouds.items()
        },
        "environment": rehearsal.environment(),
    }
    if port_file:
        new = port_file.with_name(f".{port_file.name}.{os.getpid()}")
        new.write_text(json.dumps(line) + "\n", encoding="utf-8")
        new.replace(port_file)
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _await_end_of_stdin(over: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 65536):  # not by a buffer: its lock would abort an end by a signal
        pass
    over.set()


if __name__ == "__main__":
    sys.exit(main())
