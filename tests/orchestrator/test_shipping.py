"""An image that was built here and is in no registry goes to the machine, if that does not have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import images
from jobs.images import ImageError
from orchestrator.records import Outcome, Phase
from tests.orchestrator.living import Living

IMAGE = "gpujob/job:sha-0123456789ab"


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    alive = Living(tmp_path)
    yield alive
    assert alive.cloud.alive() == ()
    alive.store.close()


def submitted(living: Living, build: dict[str, str]) -> None:
    """A run whose image was built when it was submitted."""
    living.submit(build=build)
    run = living.store.run("r-1")
    run.notes["image"] = IMAGE
    [lease] = living.store.claim("test", limit=1, lease_seconds=10)
    living.store.save(lease, run, attempts=[], events=[], charges=[], due_in=0.0, release=True)


@contextmanager
def packed(image: str, *, env: Any) -> Iterator[Iterator[bytes]]:
    yield iter([image.encode()])


@pytest.mark.parametrize(
    ("build", "shipped"), [({}, [IMAGE]), ({"push": "ghcr.io/me/job"}, [])], ids=["here", "pushed"]
)
def test_what_is_in_no_registry_is_shipped(
    living: Living, monkeypatch: pytest.MonkeyPatch, build: dict[str, str], shipped: list[str]
) -> None:
    monkeypatch.setattr(images, "packed", packed)
    submitted(living, {"context": ".", **build})
    assert living.until_done().outcome is Outcome.SUCCEEDED
    machine = living.machines["gpujob-r-1-1-1"]
    assert machine.images == shipped
    assert machine.job["container"]["image"] == IMAGE


def test_what_the_machine_has_is_not_shipped_again(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "packed", packed)
    submitted(living, {"context": "."})
    living.until(Phase.SHIP)
    living.machines["gpujob-r-1-1-1"].images.append(IMAGE)
    assert living.until_done().outcome is Outcome.SUCCEEDED
    assert living.machines["gpujob-r-1-1-1"].images == [IMAGE]


def test_an_image_that_is_gone_here_fails_the_run_and_says_so(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def missing(image: str, *, env: Any) -> Iterator[Iterator[bytes]]:
        raise ImageError(f"docker save {image}: No such image")
        yield iter(())

    monkeypatch.setattr(images, "packed", missing)
    submitted(living, {"context": "."})
    run = living.until_done()
    assert run.outcome is Outcome.FAILED and "No such image" in (run.error or "")
