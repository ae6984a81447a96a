"""Images made from a Dockerfile with this computer's Docker: built, tagged by their content, pushed or packed.

Knows Docker's command line and no cloud. A registry's password stands in no argument: it is in a file that only this
user can read, in memory where the system has such a place, for as long as Docker needs it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_CHUNK = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_TAG_DIGITS = 12
_WORDS = 2000  # of what Docker said, the last

Say = Callable[[str], None]


class ImageError(Exception):
    """The image could not be built, pushed or packed; the message has Docker's own words."""


@dataclass(frozen=True)
class Login:
    """Who may push to a registry."""

    server: str
    username: str
    password: str = field(repr=False)


def build(context: Path, dockerfile: str, repository: str, *, env: Mapping[str, str], say: Say) -> str:
    """Build the image and return its name, REPOSITORY:sha-DIGEST, where the digest is that of the image itself."""
    docker = _docker(env)
    with tempfile.TemporaryDirectory(prefix="gpujob-") as temporary:
        written = Path(temporary) / "id"
        argv = [docker, "build", "--force-rm", "--iidfile", str(written), "--file", str(context / dockerfile)]
        try:
            _run("docker build", [*argv, str(context)], env, say)
        except ImageError as error:
            if "buildx" not in str(error):
                raise
            # The client lacks its builder; the daemon still has one.
            _run("docker build", [*argv, str(context)], {**env, "DOCKER_BUILDKIT": "0"}, say)
        digest = written.read_text().strip().removeprefix("sha256:")
    name = f"{repository}:sha-{digest[:_TAG_DIGITS]}"
    _run("docker tag", [docker, "tag", digest, name], env, say)
    return name


def push(image: str, login: Login | None, *, env: Mapping[str, str], say: Say) -> None:
    """Push it where its name says, as `login`, or as this user's own Docker is logged in."""
    docker = _docker(env)
    with _logged_in(login) as options:
        _run("docker push", [docker, *options, "push", image], env, say)


def have(image: str, *, env: Mapping[str, str], say: Say) -> None:
    """See to it that the image is on this computer: it is, or it is pulled."""
    docker = _docker(env)
    looked = subprocess.run([docker, "image", "inspect", image], env=dict(env), capture_output=True, check=False)
    if looked.returncode != 0:
        _run("docker pull", [docker, "pull", "--quiet", image], env, say)


@contextmanager
def packed(image: str, *, env: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """The image as one gzip stream that `docker load` reads."""
    argv = [_docker(env), "save", image]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        try:
            yield _compressed(child)
            if child.wait() != 0:
                said.seek(0)
                raise ImageError(f"docker save {image}: {said.read().decode('utf-8', 'replace').strip()}")
        finally:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _compressed(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert child.stdout is not None
    squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    while chunk := child.stdout.read(_CHUNK):
        if small := squeeze.compress(chunk):
            yield small
    if child.wait() == 0:  # a stream that was cut off must not look whole
        yield squeeze.flush()


def _docker(env: Mapping[str, str]) -> str:
    """The first client in PATH whose daemon answers: a computer may have several."""
    error = "there is no docker in PATH"
    for place in env.get("PATH", os.defpath).split(os.pathsep):
        program = shutil.which("docker", path=place)
        if program is None:
            continue
        argv = [program, "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return program
        error = done.stderr.strip()[-_WORDS:]
    raise ImageError(f"needs Docker on this computer: {error}")


def _run(what: str, argv: list[str], env: Mapping[str, str], say: Say) -> None:
    child = subprocess.Popen(
        argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said = ""
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            said = (said + line)[-_WORDS:]
            say(line.rstrip())
    if child.wait() != 0:
        raise ImageError(f"{what} failed: {said.strip()}")


@contextmanager
def _logged_in(login: Login | None) -> Iterator[list[str]]:
    if login is None:
        yield []
        return
    server = "https://index.docker.io/v1/" if login.server == "docker.io" else login.server
    secret = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    memory_only = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gpujob-", dir=memory_only) as directory:  # mode 0700
        (Path(directory) / "config.json").write_text(json.dumps({"auths": {server: {"auth": secret}}}))
        yield ["--config", directory]
