# ruff: noqa: T201
"""`make demo`: submits the template as a person would, then says where everything is and that nothing is left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

GPUJOB = str(Path(sys.executable).with_name("gpujob"))
HOME = Path(os.environ["GPUJOB_HOME"])


def main() -> int:
    submitted = subprocess.run([GPUJOB, "submit", "templates/mnist/train.yaml", "--provider", "local"], check=False)
    if submitted.returncode != 0:
        return submitted.returncode
    run = asked("show", "mnist")
    left = left_over(run)
    print()
    print(f"accuracy   {run['metrics']['accuracy']:.2%} on digits that the network had never seen")
    print(f"cost       ${run['cost_usd']}")
    print(f"report     {run['report']}")
    print(f"artifacts  {run['folder']}/artifacts")
    print(f"left over  {', '.join(left) or 'nothing: no process, no container, no machine'}")
    return 1 if left else 0


def asked(*command: str) -> Any:
    done = subprocess.run([GPUJOB, *command, "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def left_over(run: dict[str, Any]) -> list[str]:
    """What can be found of the run's machines without asking gpujob."""
    machines = [attempt["machine"] for attempt in run["attempts"]]
    return [
        *(f"machine {name}" for name in machines if (HOME / "machines" / name).exists()),
        *(f"container {name}" for name in containers() if name in machines),
        *(f"process {pid}" for pid, marks in marked_processes() if any(name in marks for name in machines)),
    ]


def containers() -> list[str]:
    try:
        listed = subprocess.run(
            ["docker", "ps", "--all", "--format", '{{.Label "gpujob.machine"}}'],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        return []
    return listed.stdout.split()


def marked_processes() -> list[tuple[str, str]]:
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            found.append((environ.parent.name, environ.read_text(errors="replace")))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
