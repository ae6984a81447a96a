"""Virtual environments of their own, for what must not be in ours: made once, kept in the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def made_once(venv: Path, recipe: bytes, make: Callable[[], None]) -> None:
    """Make it unless it was made from this recipe. Several processes may want it at once."""
    wanted = hashlib.sha256(recipe).hexdigest()
    made = venv / "made-from"
    with venv.with_name(f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != wanted:
            shutil.rmtree(venv, ignore_errors=True)
            make()
            made.write_text(wanted)
