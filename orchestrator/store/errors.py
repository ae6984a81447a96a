"""What can go wrong with the store, named by what the caller does next.

    StoreError
    ├── RunNotFound       no such run: say so
    ├── RunAmbiguous      several runs begin like that: ask for more letters
    ├── LeaseLost         somebody else works on this run now: drop what was found, nothing was written
    ├── StoreConflict     the row breaks a rule of the store (an id twice, a charge changed): a bug of the caller
    ├── StoreBusy         somebody holds the database for too long: try again
    ├── StoreFull         no space left: make room, nothing was half written
    ├── StoreUnreachable  the database server does not answer: try again
    ├── StoreTooNew       written by a newer gpujob: upgrade this one
    └── StoreBroken       not a database, damaged, or not ours to write: a person must look

Messages never contain a password.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence


class StoreError(Exception):
    """Base of everything the store raises."""


class RunNotFound(StoreError):
    """No run has this id, prefix or name."""

    def __init__(self, wanted: str) -> None:
        super().__init__(f"no run {wanted!r}")
        self.wanted = wanted


class RunAmbiguous(StoreError):
    """Several runs begin with these letters."""

    def __init__(self, wanted: str, matches: Sequence[str]) -> None:
        shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        super().__init__(f"{wanted!r} may be any of {len(matches)} runs: {shown}")
        self.wanted = wanted
        self.matches = tuple(matches)


class LeaseLost(StoreError):
    """The lease is not ours any more; nothing was written. `run_id` may be that of a schedule, too."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the lease on {run_id} was lost to another controller")
        self.run_id = run_id


class StoreConflict(StoreError):
    """The database refuses the row: an id or a machine's name twice, an unknown run, a change to the ledger."""


class StoreBusy(StoreError):
    """The database was held by somebody else for longer than we wait."""


class StoreFull(StoreError, OSError):
    """No space left where the database lies; nothing was half written."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.args[1])


class StoreUnreachable(StoreError):
    """The database server does not answer; nothing is known about the last transaction."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of gpujob."""


class StoreBroken(StoreError):
    """Not a database of gpujob, damaged, or closed to us."""
