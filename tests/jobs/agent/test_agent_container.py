"""A job in a container: the same job, the same record, nothing left in Docker."""

from __future__ import annotations

import base64
import grp
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.agent.conftest import Host, Json
from tests.jobs.agent.test_agent_ending import CHECKPOINT, DAEMON, STUBBORN
from tests.support.processes import is_alive
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.docker]

IMAGE = os.environ.get("GPUJOB_TEST_IMAGE", "gpujob-test:base")


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    if shutil.which("docker") is None or not docker("version", "--format", "{{.Server.Version}}", check=False):
        pytest.skip("Docker does not answer")
    if not docker("image", "inspect", "-f", "{{.Id}}", IMAGE, check=False):
        pytest.skip(f"the image {IMAGE} is missing: tests/images/build.sh makes it")


class Boxed:
    """A host whose jobs run in a container."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def start(self, run: str, *, container: Json | None = None, **changes: Any) -> None:
        labels = {"gpujob.machine": self.host.machine, "odd": "a=b c"}
        spec = {"image": IMAGE, "name": self.host.machine, "labels": labels, "gpus": 0, "memory_bytes": None}
        self.host.start(run, container={**spec, "fallback": False, "args": [], **(container or {})}, **changes)

    def containers(self) -> str:
        return docker("ps", "-a", "--filter", f"label=gpujob.machine={self.host.machine}", "--format", "{{.Names}}")


@pytest.fixture
def boxed(host: Host) -> Iterator[Boxed]:
    yield Boxed(host)
    left = Boxed(host).containers()
    if left:
        docker("rm", "-f", "-v", *left.split())
    assert not left


def python(script: str) -> str:
    return f"cat > job.py <<'END'\n{script}\nEND\npython3 job.py"


def test_a_job_that_ends_well(boxed: Boxed) -> None:
    host = boxed.host
    boxed.start(
        'pwd; echo err >&2; echo "$EPOCHS ${#HF_TOKEN} $GPUJOB_WORKDIR $GPUJOB_MACHINE $PYTHONUNBUFFERED"; cat made; '
        'echo "{}" > $GPUJOB_METRICS; echo "${HOME_OF_AGENT-nothing}"; mkdir -p outputs; echo x > outputs/y',
        setup="echo setup; echo s > made",
        env={"EPOCHS": "3"},
        secrets={"HF_TOKEN": "a\nb c"},
    )
    record = host.wait()
    assert (record["reason"], record["exit_code"], record["signal"]) == ("exited", 0, None), record
    assert host.log().decode().splitlines() == [
        "setup", "/gpujob/work", "err", f"3 5 /gpujob/work {host.machine} 1", "s", "nothing",
    ]  # fmt: skip
    assert (host.work / "outputs" / "y").read_text() == "x\n"
    assert record["metrics_bytes"] == 3
    assert record["setup_seconds"] > 0
    host.wait_for_phase("exited")
    state = host.state()
    assert state["runs_in"] == "container"
    assert state["image_digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("run", "changes", "reason", "exit_code"),
    [
        ("exit 3", {}, "exited", 3),
        ("exit 125", {}, "exited", 125),
        ("no-such-command", {}, "exited", 127),
        ("kill -SEGV $$", {}, "exited", 139),
        ("echo never", {"setup": "exit 5"}, "setup", 5),
    ],
)
def test_how_it_ended(boxed: Boxed, run: str, changes: Json, reason: str, exit_code: int) -> None:
    boxed.start(run, **changes)
    record = boxed.host.wait()
    assert (record["reason"], record["exit_code"]) == (reason, exit_code)
    assert b"never" not in boxed.host.log()


def test_values_stand_in_no_command_line_and_in_no_file(boxed: Boxed) -> None:
    boxed.start("sleep 2", env={"PLAIN": "plain-value"}, secrets={"HF_TOKEN": "hf-very-secret"})
    boxed.host.wait_for_phase("running")
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert boxed.host.machine in commands
    assert "hf-very-secret" not in commands and "plain-value" not in commands
    boxed.host.wait()
    assert not [p for p in boxed.host.root.rglob("*") if p.is_file() and b"hf-very-secret" in p.read_bytes()]


def test_labels_and_arguments_reach_docker(boxed: Boxed) -> None:
    boxed.start("hostname; sleep 2", container={"args": ["--hostname", "chosen"]})
    boxed.host.wait_for_phase("running")
    assert docker("inspect", "-f", '{{index .Config.Labels "odd"}}', boxed.host.machine) == "a=b c"
    boxed.host.wait()
    assert boxed.host.log() == b"chosen\n"


def test_term_lets_a_job_write_its_checkpoint(boxed: Boxed) -> None:
    boxed.start(python(CHECKPOINT) + "; echo never")
    boxed.host.wait_for_log(b"ready")
    boxed.host.stop("cancelled", grace=10)
    record = boxed.host.wait()
    assert (record["reason"], record["detail"], record["exit_code"]) == ("stopped", "cancelled", 143)
    assert (boxed.host.work / "checkpoint").read_text() == "saved whole"
    assert b"never" not in boxed.host.log()
    assert record["run_seconds"] < 9


def test_what_ignores_term_is_killed_after_the_grace(boxed: Boxed) -> None:
    boxed.start(python(DAEMON) + "\n" + python(STUBBORN), max_duration_seconds=2, grace_seconds=0.5)
    record = boxed.host.wait()
    assert (record["reason"], record["exit_code"]) == ("max_duration", 137)
    boxed.host.wait_until_quiet()


def test_the_deadline(boxed: Boxed) -> None:
    boxed.start("sleep 600", deadline_seconds=2, grace_seconds=1)
    assert boxed.host.wait()["reason"] == "deadline"


def test_when_the_runner_is_killed_the_switch_removes_the_container(boxed: Boxed) -> None:
    boxed.start(python(CHECKPOINT))
    boxed.host.wait_for_log(b"ready")
    boxed.host.kill(boxed.host.runner())
    assert boxed.host.wait()["reason"] == "agent"
    assert (boxed.host.work / "checkpoint").read_text() == "saved whole"
    eventually(lambda: boxed.host.state()["phase"] == "exited", 5)


def test_end_removes_the_container(boxed: Boxed) -> None:
    boxed.start("sleep 600")
    boxed.host.wait_for_phase("running")
    assert boxed.host.ask("end") == {"ended": True}
    assert boxed.containers() == ""
    assert boxed.host.wait(1)["reason"] == "stopped"


def test_a_container_that_somebody_else_killed(boxed: Boxed) -> None:
    boxed.start("sleep 600")
    boxed.host.wait_for_phase("running")
    docker("kill", boxed.host.machine)
    record = boxed.host.wait()
    assert (record["reason"], record["exit_code"]) == ("exited", 137)


def test_out_of_memory(boxed: Boxed) -> None:
    hungry = "x = []\nwhile True:\n    x.append(bytearray(10_000_000))"
    boxed.start(python(hungry), container={"memory_bytes": 128 * 1024 * 1024})
    record = boxed.host.wait()
    assert (record["reason"], record["exit_code"]) == ("oom", 137)


def test_a_gpu_that_the_machine_cannot_give(boxed: Boxed) -> None:
    boxed.start("echo never", container={"gpus": 1})
    record = boxed.host.wait()
    assert record["reason"] == "error"
    assert "device driver" in record["detail"]


def test_an_image_that_does_not_run_as_root(boxed: Boxed) -> None:
    made = docker("create", IMAGE)
    name = f"gpujob-h2-user:{boxed.host.machine[-6:]}"
    try:
        docker("commit", "--change", "USER 1234", made, name)
        (boxed.host.work).mkdir(parents=True)
        (boxed.host.work / "shipped").write_text("1")
        boxed.start(
            "id -u; echo 2 > shipped; echo m > $GPUJOB_METRICS; mkdir out", setup="true", container={"image": name}
        )
        record = boxed.host.wait()
        assert (record["reason"], record["exit_code"], boxed.host.log()) == ("exited", 0, b"1234\n")
        assert record["setup_seconds"] is not None
        assert boxed.host.root.stat().st_mode & 0o077 == 0
    finally:
        docker("rm", made)
        docker("rmi", name)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be somebody else")
def test_files_of_the_containers_root_are_given_back(make_host: Callable[..., Host]) -> None:
    group = grp.getgrgid(Path("/var/run/docker.sock").stat().st_gid).gr_gid
    with tempfile.TemporaryDirectory(prefix="gpujob-test-") as place:
        Path(place).chmod(0o755)
        host = make_host(root=Path(place) / "machine", env={"HOME": place})
        host.become(1234, group)
        os.chown(host.root, 1234, 1234)
        Boxed(host).start(
            "mkdir -p out/deep; echo x > out/deep/file; chmod 600 out/deep/file; ln -s /etc/passwd out/link"
        )
        assert host.wait()["exit_code"] == 0
        owners = {path.name: path.lstat().st_uid for path in [host.work / "out", *(host.work / "out").rglob("*")]}
        assert owners == dict.fromkeys(("out", "deep", "file", "link"), 1234)
        assert Path("/etc/passwd").stat().st_uid == 0
        host.wait_until_quiet()


# -- where the image comes from


class Registry(BaseHTTPRequestHandler):
    """One small image without a shell under /v2/small; another name is not there, or denied."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.server.login and self.headers.get("Authorization") != self.server.login:  # type: ignore[attr-defined]
            return self._say(401, b"{}", challenge='Basic realm="private"')
        if "denied" in self.path:
            return self._say(
                403, json.dumps({"errors": [{"code": "DENIED", "message": "requested access is denied"}]}).encode()
            )
        found = self.server.contents.get(self.path.removeprefix("/v2/small/"))  # type: ignore[attr-defined]
        if self.path == "/v2/":
            return self._say(200, b"{}")
        if found is None:
            return self._say(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no"}]}).encode())
        return self._say(200, *found)

    def _say(self, status: int, content: bytes, kind: str = "application/json", challenge: str = "") -> None:
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Content-Digest", _digest(content))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _small_image() -> dict[str, tuple[bytes, str]]:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("hello"))
    layer_digest = _digest(layer.getvalue())
    rootfs = {"type": "layers", "diff_ids": [layer_digest]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    blobs = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar"
    described = [
        {"mediaType": blobs[0], "size": len(config), "digest": _digest(config)},
        {"mediaType": blobs[1], "size": len(layer.getvalue()), "digest": layer_digest},
    ]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": described[1:]}
    ).encode()
    return {
        "manifests/1": (manifest, kind),
        f"manifests/{_digest(manifest)}": (manifest, kind),
        f"blobs/{_digest(config)}": (config, "application/octet-stream"),
        f"blobs/{layer_digest}": (layer.getvalue(), "application/octet-stream"),
    }


@pytest.fixture
def login() -> str:
    """The Authorization header that the registry asks for; none."""
    return ""


@pytest.fixture
def registry(login: str) -> Iterator[tuple[str, str]]:
    """Its address, and the digest of its one image."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        server.contents, server.login = _small_image(), login  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        yield address, _digest(server.contents["manifests/1"][0])  # type: ignore[attr-defined]
        server.shutdown()
        docker("rmi", "-f", f"{address}/small:1", check=False)


def test_an_image_is_pulled_when_it_is_not_here(boxed: Boxed, registry: tuple[str, str]) -> None:
    """It has no shell: what docker then says is the record."""
    address, digest = registry
    boxed.start("echo never", container={"image": f"{address}/small:1", "fallback": True})
    record = boxed.host.wait()
    assert boxed.host.events()[:2] == ["pull", "pulled"]
    assert boxed.host.state()["image_digest"] == digest
    assert record["reason"] == "image"
    assert "exec sh failed" in record["detail"]


@pytest.mark.parametrize("login", ["Basic " + base64.b64encode(b"ada:pass:word").decode()])
@pytest.mark.parametrize(("password", "pulled"), [("pass:word", True), ("n0t-it-4711", False)])
def test_a_private_registry_gets_its_password_and_nobody_else(
    boxed: Boxed, registry: tuple[str, str], password: str, pulled: bool
) -> None:
    address, _ = registry
    container = {"image": f"{address}/small:1", "fallback": False, "name": boxed.host.machine, "labels": {}}
    job = {"run_id": "r-1", "run": "echo never", "container": container, "deadline_seconds": 120, "grace_seconds": 5}
    login = {"server": address, "username": "ada", "password": password}
    boxed.host.ask("start", request={"job": job, "secrets": {}, "registry": login})
    record = boxed.host.wait()
    assert ("pulled" in boxed.host.events()) is pulled
    assert ("exec sh failed" in record["detail"]) is pulled, "it was pulled, and it has no shell"
    written = [path for path in boxed.host.root.rglob("*") if path.is_file()]
    assert not any(password.encode() in path.read_bytes() for path in written)
    assert not list(Path("/dev/shm").glob("tmp*/config.json"))


@pytest.mark.parametrize(("name", "words"), [("none:1", "manifest"), ("denied:1", "denied")])
def test_what_a_registry_refuses_is_the_jobs_own_error(
    boxed: Boxed, registry: tuple[str, str], name: str, words: str
) -> None:
    boxed.start("echo never", container={"image": f"{registry[0]}/{name}", "fallback": True})
    record = boxed.host.wait()
    assert (record["reason"], boxed.host.log()) == ("image", b"")
    assert words in record["detail"]


def test_where_no_registry_answers_it_runs_as_a_process_if_it_may(boxed: Boxed) -> None:
    boxed.start("echo $VIRTUAL_ENV", container={"image": "127.0.0.1:1/none:1", "fallback": True})
    assert boxed.host.wait()["exit_code"] == 0
    assert boxed.host.log().decode().strip() == str(boxed.host.root / "venv")
    assert "fallback" in boxed.host.events()
    assert boxed.host.state()["runs_in"] == "process"


def test_where_no_registry_answers_it_does_not_run_if_it_may_not(boxed: Boxed) -> None:
    boxed.start("echo never", container={"image": "127.0.0.1:1/none:1", "fallback": False})
    record = boxed.host.wait()
    assert record["reason"] == "image"
    assert "no registry answers" in record["detail"]


def test_a_pull_can_be_stopped(boxed: Boxed, registry: tuple[str, str], tmp_path: Path) -> None:
    slow = 'case "$1" in pull) echo "layer: Downloading"; exec sleep 600;; esac'
    (tmp_path / "docker").write_text(f'#!/bin/sh\n{slow}\nexec {shutil.which("docker")} "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    boxed.host.env["PATH"] = f"{tmp_path}:{boxed.host.env['PATH']}"
    boxed.start("echo never", container={"image": f"{registry[0]}/small:1"})
    eventually(lambda: boxed.host.state()["detail"] == "layer: Downloading", 10)
    assert boxed.host.state()["phase"] == "pulling"
    boxed.host.stop("changed my mind")
    record = boxed.host.wait(10)
    assert (record["reason"], record["exit_code"]) == ("stopped", None)
    boxed.host.wait_until_quiet()
    assert not is_alive(boxed.host.runner())
