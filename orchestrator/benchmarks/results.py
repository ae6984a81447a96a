"""From a run of a sweep that succeeded to its results: what each metric that matters came to, and on what testbed.

Pure: records and points in, rows out. What has changed since earlier results is series.py's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from statistics import median

from jobs import repeats
from jobs.reported import Point
from orchestrator.records import Attempt, Json, Run
from orchestrator.store.rows import ResultRow

USD_PER_HOUR = "usd_per_hour"  # what the machine was rented for: a series as every other

TESTBED = (  # what is noted of it with every result
    "commit", "code", "image", "image_digest", "driver", "cuda", "cpu_model", "cpus", "memory_bytes", "region", "spot",
    "host",
)  # fmt: skip

_SECONDS = {"better": "lower", "unit": "s", "work": None}
_RATE = {"better": "lower", "unit": "$/h", "work": None}


def of_run(run: Run, attempt: Attempt, points: Iterable[Point], *, is_simulated: bool, at: datetime) -> list[ResultRow]:
    """A row for each metric that was measured, for the time by the clock, and for the machine's rate."""
    place: Json = run.notes["sweep"]
    measured = repeats.read(points, attempt=attempt.number, warmup=int(place["warmup"]))
    wanted: dict[str, Json] = {**place["measure"]}
    wanted.setdefault(repeats.WALL_SECONDS, _SECONDS)
    found = {name: [one[name] for one in measured if name in one] for name in wanted}
    if attempt.usd_per_hour:
        wanted[USD_PER_HOUR], found[USD_PER_HOUR] = _RATE, [float(attempt.usd_per_hour)]
    main = main_metric(place["measure"])
    return [
        ResultRow(
            run_id=run.id,
            metric=name,
            sweep_id=place["id"],
            suite=place["suite"],
            task=place["task"],
            target=place["target"],
            provider=attempt.provider,
            machine=_machine(attempt),
            gpu=attempt.offer["gpu"],
            gpu_count=int(attempt.offer["gpu_count"]),
            is_simulated=is_simulated,
            unit=measure["unit"],
            better=measure["better"],
            work=measure["work"],
            is_main=name == main,
            repeats=found[name],
            value=median(found[name]),
            usd_per_hour=attempt.usd_per_hour,
            at=at,
            testbed=testbed(run, attempt),
        )
        for name, measure in wanted.items()
        if found[name]
    ]


def main_metric(measure: Mapping[str, Json]) -> str:
    """By which a task is compared: the first that it names, else its time."""
    return next(iter(measure), repeats.WALL_SECONDS)


def shortfalls(run: Run, rows: Iterable[ResultRow]) -> list[str]:
    """In words, what the suite asks for and the run's results lack: a metric, or some of its repeats."""
    place: Json = run.notes["sweep"]
    wanted = int(place.get("repeats", 1))  # which sweeps of the first days did not note
    counted = {row.metric: len(row.repeats) for row in rows}
    found = {name: counted.get(name, 0) for name in place["measure"] or [repeats.WALL_SECONDS]}
    return [
        f"{name} was reported in {count} of {wanted} repeats" if count else f"{name} was not reported"
        for name, count in found.items()
        if count < wanted
    ]


def testbed(run: Run, attempt: Attempt) -> Json:
    """What may explain that two results of one series differ; None where it is not known."""
    facts, offer = attempt.facts or {}, attempt.offer
    gpus = facts.get("gpus") or [{}]
    return {
        "driver": gpus[0].get("driver"),
        "cuda": facts.get("cuda"),
        "cpu_model": facts.get("cpu_model"),
        "cpus": facts.get("cpus"),
        "memory_bytes": facts.get("memory_bytes"),
        "image": _image(run, attempt),
        "image_digest": attempt.notes.get("image_digest"),
        "code": run.notes.get("bundle_digest"),
        "commit": run.notes["sweep"]["commit"],
        "region": offer.get("region"),
        "spot": bool(offer.get("spot")),
        "host": attempt.host_id or None,
    }


def _image(run: Run, attempt: Attempt) -> str | None:
    """In which it ran; "none" as a process, also where its image could not be used."""
    if attempt.notes.get("without_image") is not None:
        return "none"
    return run.notes.get("image") or run.spec.get("image") or "none"


def _machine(attempt: Attempt) -> str:
    """What a cloud calls this kind of machine. A marketplace has no kinds: any host with the GPU is as good."""
    return str(attempt.offer.get("machine_type") or "")
