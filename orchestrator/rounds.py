"""Work that is done again and again beside a controller's runs: a round that fails is said, and the next one comes.

Knows neither what the work is nor when it is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from orchestrator.store.errors import StoreError

T = TypeVar("T")


def surviving(what: str, work: Callable[[], T], *, otherwise: T, log: logging.Logger) -> T:
    """What the work returns; `otherwise` when it fails. A bug in one round must not end all that come after it."""
    try:
        return work()
    except StoreError as error:
        log.warning("%s: tried again later: %s", what, error)
    except Exception:
        log.exception("%s: tried again later", what)
    return otherwise
