"""From a train.yaml to a row: what is refused, what is asked, and that nothing half-made stays."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from jobs.bundle import BundleError
from jobs.problems import SpecError
from orchestrator import submission
from orchestrator.records import Attempt, Event, Phase, Run
from orchestrator.secrets import SecretMissing
from orchestrator.store.errors import StoreFull
from orchestrator.store.store import Store
from orchestrator.submission import Prepared, SubmissionError, owner
from tests.orchestrator.scene import Scene

YAML = "name: mnist\nimage: none\nrun: python train.py\nplace: {providers: [local]}\n"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def store(scene: Scene) -> Iterator[Store]:
    opened = scene.store()
    yield opened
    opened.close()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "train.yaml").write_text(YAML)
    return folder / "train.yaml"


def prepare(scene: Scene, spec: Path, **env: str) -> Prepared:
    return submission.prepare(spec, home=scene.home, env=env)


def runs_in(scene: Scene) -> list[str]:
    folder = scene.home.root / "runs"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_a_submitted_run_has_all_its_files_and_is_due(scene: Scene, store: Store, spec: Path) -> None:
    run = submission.submit(prepare(scene, spec), store=store, home=scene.home, env={"GPUJOB_OWNER": "Ada L."})
    kept = store.run(run.id)
    assert (kept.phase, kept.name, kept.owner) == (Phase.QUOTE, "mnist", "ada-l")
    assert store.next_due() == 0
    assert [event.kind for event in store.events(run.id)] == ["phase"]
    folder = scene.home.run(run.id)
    assert folder.spec.read_text() == YAML
    assert len(str(kept.notes["bundle_digest"])) == 64 and folder.bundle.stat().st_size > 0
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_ids_are_short_and_readable(scene: Scene, store: Store, spec: Path) -> None:
    ids = {submission.submit(prepare(scene, spec), store=store, home=scene.home, env={}).id for _ in range(3)}
    assert len(ids) == 3
    assert all(len(run_id) == 8 and run_id.startswith("r-") and not set(run_id[2:]) & set("ilou") for run_id in ids)


def test_overrides_stand_in_for_the_file(scene: Scene, spec: Path) -> None:
    prepared = submission.prepare(
        spec, home=scene.home, env={}, overrides={"limits.max_cost": "2.50", "env.EPOCHS": "3"}
    )
    assert (prepared.spec.limits.max_cost, dict(prepared.spec.env)) == (Decimal("2.50"), {"EPOCHS": "3"})


def test_every_mistake_of_a_spec_is_said(scene: Scene, spec: Path) -> None:
    spec.write_text("run: x\nresources: {gpu: RTX9999}\nlimits: {max_cost: lots}\n")
    with pytest.raises(SpecError) as refused:
        prepare(scene, spec)
    assert {problem.path for problem in refused.value.problems} == {"resources.gpu", "limits.max_cost"}


def test_a_missing_secret_says_where_to_put_it(scene: Scene, spec: Path) -> None:
    spec.write_text(YAML + "secrets: [HF_TOKEN]\n")
    with pytest.raises(SecretMissing, match=r"HF_TOKEN.*secrets\.env"):
        prepare(scene, spec)
    assert prepare(scene, spec, HF_TOKEN="x").spec.secrets == ("HF_TOKEN",)


def test_three_gigabytes_by_accident_are_refused(scene: Scene, store: Store, spec: Path) -> None:
    (spec.parent / "data").mkdir()
    for name in ("a.bin", "b.bin"):
        with (spec.parent / "data" / name).open("wb") as sparse:
            sparse.truncate(1_500_000_000)
    prepared = prepare(scene, spec)
    with pytest.raises(SubmissionError) as refused:
        submission.submit(prepared, store=store, home=scene.home, env={})
    assert "3.0 GB" in str(refused.value) and "data/" in str(refused.value) and "--yes" in str(refused.value)
    assert store.runs() == [] and runs_in(scene) == []


class FullStore(Store):
    """A store on a full disk."""

    def add_run(self, run: Run, events: Sequence[Event] = (), *, attempts: Sequence[Attempt] = ()) -> None:
        raise StoreFull("no space left")


def test_a_row_that_cannot_be_written_leaves_no_files_and_no_secrets(scene: Scene, spec: Path, tmp_path: Path) -> None:
    spec.write_text(YAML + "secrets: [HF_TOKEN]\n")
    memory = tmp_path / "memory"
    memory.mkdir()
    env = {"HF_TOKEN": "s3cr3t", "XDG_RUNTIME_DIR": str(memory)}
    full = FullStore.open(scene.home.database_url({}))
    with pytest.raises(StoreFull):
        submission.submit(submission.prepare(spec, home=scene.home, env=env), store=full, home=scene.home, env=env)
    assert runs_in(scene) == [] and [path for path in memory.rglob("*") if path.is_file()] == []


def test_a_file_that_vanishes_meanwhile_is_named(scene: Scene, store: Store, spec: Path) -> None:
    prepared = prepare(scene, spec)
    (spec.parent / "train.py").unlink()
    with pytest.raises(BundleError, match=r"train\.py"):
        submission.submit(prepared, store=store, home=scene.home, env={})
    assert store.runs() == [] and runs_in(scene) == []


def test_a_dict_counts_its_paths_from_the_current_directory(
    scene: Scene, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(spec.parent)
    prepared = submission.prepare({"run": "python train.py", "image": "none"}, home=scene.home, env={})
    assert prepared.spec.name == "job"
    assert {file.path for file in prepared.bundle.files} == {"train.py", "train.yaml"}
    with pytest.raises(SpecError, match=r"^job: rum: "):
        submission.prepare({"rum": "python train.py", "run": "x"}, home=scene.home, env={})


@pytest.mark.parametrize(
    ("chosen", "name"), [("ada", "ada"), ("Ada Lovelace@Host.local", "ada-lovelace-host-local"), ("--", "somebody")]
)
def test_owner_is_something_that_every_cloud_can_write(chosen: str, name: str) -> None:
    assert owner({"GPUJOB_OWNER": chosen}) == name
    assert owner({})


def test_gpujobs_own_home_is_never_shipped(tmp_path: Path) -> None:
    """A home inside the working directory would ship every earlier bundle with each new one."""
    scene = Scene(tmp_path)
    (scene.home.root / "runs").mkdir(parents=True)
    (scene.home.root / "runs" / "old").write_bytes(b"x")
    spec = scene.home.root.parent / "train.yaml"
    spec.write_text(YAML)
    assert {file.path.split("/")[0] for file in prepare(scene, spec).bundle.files} == {"train.yaml"}


def test_an_image_is_built_from_a_dockerfile_that_is_there(scene: Scene, spec: Path) -> None:
    spec.write_text("run: python train.py\nbuild: {context: .}\n")
    with pytest.raises(SubmissionError, match=r"there is no .*Dockerfile"):
        prepare(scene, spec)
