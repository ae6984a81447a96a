"""What was made of a schedule's times: the runs of each, one or a sweep's, and what they have cost by now.

Reads the store and decides nothing. Knows no cron.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator import together
from orchestrator.store.rows import FiringRow
from orchestrator.store.store import Store
from orchestrator.together import Together


def fired(store: Store, firings: Sequence[FiringRow]) -> list[Together]:
    """Of each of these times, in their order: a sweep's runs in the order of their turns; none where none was made."""
    cells = store.benchmarks.cells_of([firing.sweep_id for firing in firings if firing.sweep_id])
    of_sweep = {sweep_id: [cell.run_id for cell in its] for sweep_id, its in cells.items()}
    ids = [[firing.run_id] if firing.run_id else of_sweep.get(firing.sweep_id or "", []) for firing in firings]
    return together.load_each(store, ids)
