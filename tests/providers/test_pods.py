"""What a pod starts with, run by a real shell in a home that is not /root: the switch, and the end of the machine."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from providers import pods
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

NAMES = ("POD_URL", "POD_KEY")
ASK = 'ask DELETE "$POD_URL/pods/1" "$POD_KEY" || ask POST "$POD_URL/graphql" "$POD_KEY" \'{"end": "1"}\''
SHELLS = [name for name in ("sh", "bash") if shutil.which(name)]


class Cloud:
    """Says yes or no to every request, and remembers method, path, key and body."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str, str, str]] = []
        cloud = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                cloud.asked.append((self.command, self.path, self.headers["Authorization"], body))
                self.send_response(cloud.status)
                self.end_headers()

            do_DELETE = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def env(tmp_path: Path, cloud: Cloud) -> dict[str, str]:
    """Of a machine whose home is a folder, and whose `sleep` is a short one."""
    short = tmp_path / "bin/sleep"
    short.parent.mkdir()
    short.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.05\n")
    short.chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return {"PATH": path, "GPUJOB_MACHINE_HOME": str(tmp_path), "POD_URL": cloud.url, "POD_KEY": 'it\'s "secret" $HOME'}


@pytest.fixture
def started(tmp_path: Path, env: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def script(deadline: timedelta, *, clock_ahead: timedelta = timedelta()) -> str:
    now = datetime.now(UTC)
    return pods.start_script(pods.end_script(ASK, NAMES), deadline=now + deadline + clock_ahead, now=now + clock_ahead)


def begin(text: str, env: dict[str, str], shell: str = "sh") -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [shell, "-c", text], env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=300)])
def test_at_the_deadline_the_machine_asks_for_its_end(
    shell: str, ahead: timedelta, env: dict[str, str], cloud: Cloud, started: list[subprocess.Popen[bytes]]
) -> None:
    """Also when the machine's clock is so far behind that its deadline never comes."""
    started.append(begin(script(timedelta(seconds=1), clock_ahead=ahead), env, shell))
    eventually(lambda: cloud.asked)
    assert cloud.asked[0][:3] == ("DELETE", "/pods/1", f"Bearer {env['POD_KEY']}")


def test_it_asks_again_until_it_is_gone(
    env: dict[str, str], cloud: Cloud, started: list[subprocess.Popen[bytes]]
) -> None:
    cloud.status = 503
    started.append(begin(script(timedelta(seconds=1)), env))
    eventually(lambda: len(cloud.asked) >= 6)
    assert [row[0] for row in cloud.asked[:4]] == ["DELETE", "POST", "DELETE", "POST"], "and in the other way, too"


def test_before_the_deadline_nothing_is_asked_and_the_job_may_ask_itself(
    env: dict[str, str], cloud: Cloud, started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    started.append(begin(script(timedelta(hours=1)), env))
    eventually((tmp_path / ".gpujob/end").exists)
    assert started[0].poll() is None and cloud.asked == []
    assert (tmp_path / ".gpujob").stat().st_mode & 0o077 == 0
    assert subprocess.run(pods.SELF_DESTRUCT, env=env, check=False, timeout=30).returncode == 0
    assert [row[0] for row in cloud.asked] == ["DELETE"]


@pytest.mark.parametrize("program", ["curl", "python3"])
def test_the_request_is_the_same_with_curl_and_with_python(
    program: str, env: dict[str, str], cloud: Cloud, tmp_path: Path
) -> None:
    """With only one of them in PATH; the key stands in nobody's command line."""
    found = {"curl": shutil.which("curl"), "python3": sys.executable}[program]
    if found is None:
        pytest.skip("curl is not installed")
    spy = tmp_path / "bin" / program
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/argv\nexec {found} "$@"\n')
    spy.chmod(0o755)
    for name in ("sh", "tr", "sed", "head", "cat"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    cloud.status = 404
    ended = pods.end_script(ASK, NAMES)
    done = subprocess.run(
        ["/bin/sh", "-c", ended], env={**env, "PATH": f"{tmp_path}/bin"}, capture_output=True, check=False, timeout=30
    )
    assert done.returncode != 0, "a refusal is a failure"
    key = f"Bearer {env['POD_KEY']}"
    assert cloud.asked == [("DELETE", "/pods/1", key, ""), ("POST", "/graphql", key, '{"end": "1"}')]
    assert "secret" not in (tmp_path / "argv").read_text() and b"secret" not in done.stderr


def test_no_key_stands_in_the_script() -> None:
    text = script(timedelta(hours=1))
    given = pods.environment("ssh-ed25519 AAAA me", "PRIVATE")
    assert "AAAA" not in text and "PRIVATE" not in text
    assert given["GPUJOB_PUBLIC_KEY"] == given["PUBLIC_KEY"] == "ssh-ed25519 AAAA me"
    assert given["GPUJOB_HOST_KEY"] == "PRIVATE"
    assert "GPUJOB_HOST_KEY" not in pods.environment("ssh-ed25519 AAAA me", "")
