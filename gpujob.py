"""gpujob from Python, on one page.

    import gpujob

    run = gpujob.submit("train.yaml", provider="local", env={"EPOCHS": "3"})
    run.wait(progress=True)
    run.outcome, run.cost(), run.metrics()["loss"], run.artifacts()[0].path

    gpujob.prices("RTX4090", hours=8)[0].total_usd

    gpujob.runs()           # newest first
    gpujob.get("mnist")     # by id, beginning of an id, or name

A failed job is an outcome, not an exception. A job that cannot be submitted raises SpecError (every mistake at once),
SecretMissing or SubmissionError; an unknown run raises RunNotFound or RunAmbiguous, an unknown GPU or provider
UnknownName.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.problems import SpecError
    from orchestrator.api import Prices, Run, get, prices, runs, submit
    from orchestrator.clouds import UnknownName
    from orchestrator.results import Artifact
    from orchestrator.secrets import SecretMissing
    from orchestrator.store.errors import RunAmbiguous, RunNotFound
    from orchestrator.submission import SubmissionError

__all__ = [
    "Artifact",
    "Prices",
    "Run",
    "RunAmbiguous",
    "RunNotFound",
    "SecretMissing",
    "SpecError",
    "SubmissionError",
    "UnknownName",
    "get",
    "prices",
    "runs",
    "submit",
]

_HOMES = {
    "Artifact": "orchestrator.results",
    "Prices": "orchestrator.api",
    "Run": "orchestrator.api",
    "RunAmbiguous": "orchestrator.store.errors",
    "RunNotFound": "orchestrator.store.errors",
    "SecretMissing": "orchestrator.secrets",
    "SpecError": "jobs.problems",
    "SubmissionError": "orchestrator.submission",
    "UnknownName": "orchestrator.clouds",
    "get": "orchestrator.api",
    "prices": "orchestrator.api",
    "runs": "orchestrator.api",
    "submit": "orchestrator.api",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import gpujob` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gpujob' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
