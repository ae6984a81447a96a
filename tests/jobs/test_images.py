"""Images from a Dockerfile: tagged by what is in them, pushed with a login that leaves no trace, packed whole."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import images
from jobs.images import ImageError, Login
from tests.support import registry

pytestmark = [pytest.mark.process, pytest.mark.docker]

ENV = dict(os.environ)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM gpujob-test:base\nCOPY answer /answer\n")
    (folder / "answer").write_text("42\n")
    return folder


@pytest.fixture
def made() -> Iterator[list[str]]:
    """Names of images to be removed."""
    names: list[str] = []
    yield names
    subprocess.run(["docker", "rmi", "-f", *names], capture_output=True, check=False)


def test_the_same_content_has_the_same_name_and_another_has_another(context: Path, made: list[str]) -> None:
    said: list[str] = []
    for answer in ("42\n", "42\n", "43\n"):
        (context / "answer").write_text(answer)
        made.append(images.build(context, "Dockerfile", "gpujob-test/built", env=ENV, say=said.append))
    first, again, other = made
    assert first == again != other
    assert first.startswith("gpujob-test/built:sha-") and said
    shown = subprocess.run(["docker", "run", "--rm", first, "cat", "/answer"], capture_output=True, check=True)
    assert shown.stdout == b"42\n"


def test_a_dockerfile_that_fails_says_what_docker_said(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM gpujob-test:base\nRUN echo on-the-way && exit 7\n")
    with pytest.raises(ImageError, match="docker build failed") as caught:
        images.build(context, "Dockerfile", "gpujob-test/built", env=ENV, say=lambda _: None)
    assert "on-the-way" in str(caught.value)


def test_without_docker_it_says_so(context: Path) -> None:
    with pytest.raises(ImageError, match="needs Docker on this computer"):
        images.build(context, "Dockerfile", "x", env={"PATH": str(context)}, say=lambda _: None)


def test_an_image_is_pushed_with_a_login_that_leaves_no_trace(context: Path, made: list[str], tmp_path: Path) -> None:
    env = {**ENV, "HOME": str(tmp_path)}
    (context / "Dockerfile").write_text("FROM scratch\nCOPY answer /answer\n")
    with registry.serving("ada:pass:word") as there:
        made.append(images.build(context, "Dockerfile", f"{there.address}/team/job", env=env, say=lambda _: None))
        with pytest.raises(ImageError, match="docker push failed"):
            images.push(made[0], Login(there.address, "ada", "wrong"), env=env, say=lambda _: None)
        assert there.images == []
        images.push(made[0], Login(there.address, "ada", "pass:word"), env=env, say=lambda _: None)
        assert there.images == [made[0].partition("/")[2]]
    assert not (tmp_path / ".docker").exists()
    assert not list(Path("/dev/shm").glob("gpujob-*/config.json"))


def test_a_packed_image_is_whole(context: Path, made: list[str], tmp_path: Path) -> None:
    made.append(images.build(context, "Dockerfile", "gpujob-test/packed", env=ENV, say=lambda _: None))
    with images.packed(made[0], env=ENV) as chunks, (tmp_path / "image.tar.gz").open("wb") as file:
        file.writelines(chunks)
    with tarfile.open(tmp_path / "image.tar.gz") as tar:
        assert "manifest.json" in tar.getnames()
    subprocess.run(["docker", "rmi", "-f", made[0]], capture_output=True, check=True)
    with (tmp_path / "image.tar.gz").open("rb") as file:
        subprocess.run(["docker", "load"], stdin=file, capture_output=True, check=True)
    subprocess.run(["docker", "image", "inspect", made[0]], capture_output=True, check=True)


def test_an_image_that_is_not_here_cannot_be_packed() -> None:
    with pytest.raises(ImageError, match="no-such-image"), images.packed("no-such-image:1", env=ENV) as chunks:
        list(chunks)
