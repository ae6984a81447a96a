# ruff: noqa: T201
"""`make demo`: the whole story on simulated clouds of this computer, told by the commands that a person would use.

Prices over three clouds, the cheapest rented, the template trained, the report, the clouds' own bills beside ours; then
a look of our own for what is left over.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

GPUJOB = str(Path(sys.executable).with_name("gpujob"))
HOME = Path(os.environ["GPUJOB_HOME"])
IMAGE = "gpujob-test:torch"  # in place of the template's image, where no registry can be reached


def main() -> int:
    before = set(left_over())
    command = ["rehearse", "templates/mnist/train.yaml", "--gpu", "RTX4090", "--prices"]
    command += ["--image", IMAGE] if has_image() else []
    print("$", " ".join(["gpujob", *command]), flush=True)
    done = subprocess.run([GPUJOB, *command], check=False)
    if done.returncode != 0:
        return done.returncode
    run, left = rehearsed(), sorted(set(left_over()) - before)
    print()
    print(f"accuracy   {run['metrics']['accuracy']:.2%} on digits that the network had never seen")
    print(f"report     {run['report']}")
    print(f"artifacts  {run['folder']}/artifacts")
    print(f"left over  {', '.join(left) or 'nothing: no process, no container, no machine'}")
    return 1 if left else 0


def rehearsed() -> dict[str, Any]:
    """The run, as `gpujob show` has it in the home of the newest rehearsal."""
    home = max((HOME / "rehearsals").iterdir())
    shown = subprocess.run(
        [GPUJOB, "show", "mnist", "--json"],
        env={**os.environ, "GPUJOB_HOME": str(home)},
        check=True,
        stdout=subprocess.PIPE,
    )
    run: dict[str, Any] = json.loads(shown.stdout)
    return run


def has_image() -> bool:
    try:
        return subprocess.run(["docker", "image", "inspect", IMAGE], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def left_over() -> list[str]:
    """What can be found of machines without asking gpujob."""
    return [*(f"container {name}" for name in containers()), *(f"process {pid}" for pid in marked_processes())]


def containers() -> list[str]:
    try:
        listed = subprocess.run(
            ["docker", "ps", "--all", "--filter", "label=gpujob.rehearsal", "--format", "{{.Names}}"],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        return []
    return listed.stdout.split()


def marked_processes() -> list[str]:
    """Processes that carry the mark of a machine."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if "GPUJOB_MACHINE" in environ.read_text(errors="replace"):
                found.append(environ.parent.name)
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
