"""The job of a chaos round, and what it must have written: every byte follows from its seed.

Runs on the machine as it is (standard library only, Python 3.8), and is imported by the harness for what to expect.
`python3 job.py '{"seed": 7, "lines": 40, "seconds": 1.5, "files": [10, 70000], "exit_code": 0, "checkpointed": false}'`
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

PARTS = 10  # a job rests, and writes a checkpoint, after each


def line(seed: int, number: int) -> str:
    """The text of one line of the log."""
    return f"{number} {hashlib.sha256(b'%d line %d' % (seed, number)).hexdigest()}\n"


def content(seed: int, number: int, size: int) -> bytes:
    """The bytes of one artifact."""
    blocks = (hashlib.sha256(b"%d file %d %d" % (seed, number, block)).digest() for block in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def log(seed: int, lines: int, begun: int = 0) -> bytes:
    """The whole log of an attempt that went on from line `begun`."""
    return (f"from {begun}\n" + "".join(line(seed, number) for number in range(begun + 1, lines + 1))).encode()


def run(seed: int, lines: int, seconds: float, files: list[int], exit_code: int, checkpointed: bool) -> int:
    begun = _begun() if checkpointed else 0
    sys.stdout.write(f"from {begun}\n")
    sys.stdout.flush()
    part = max(1, lines // PARTS)
    for number in range(begun + 1, lines + 1):
        sys.stdout.write(line(seed, number))
        if number % part == 0:
            sys.stdout.flush()
            time.sleep(seconds / PARTS)
            if checkpointed:
                _put("checkpoints", "line", str(number).encode())
    for number, size in enumerate(files, 1):
        _put("out", f"{number}.bin", content(seed, number, size))
    sys.stdout.flush()
    return exit_code


def _begun() -> int:
    try:
        return int(Path("checkpoints", "line").read_text())
    except OSError:
        return 0


def _put(folder: str, name: str, content: bytes) -> None:
    """There whole or not at all."""
    Path(folder).mkdir(exist_ok=True)
    new = Path(folder, "." + name)
    new.write_bytes(content)
    new.replace(Path(folder, name))


if __name__ == "__main__":
    sys.exit(run(**json.loads(sys.argv[1])))
