"""The script that an instance starts with: what it does, and that it fits. Run by a real sh against a real server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from providers import pods
from providers.errors import Rejected
from providers.vast import launch
from tests.fakes.clock import START
from tests.providers.wire import request

LONG_KEY = "ssh-rsa " + "A" * 2200


def test_the_switch_is_armed_before_anything_else() -> None:
    script = launch.onstart(request(), START)
    assert script.index(pods.END) < script.index(".no_auto_tmux") < script.index("/etc/environment")
    assert "CONTAINER_API_KEY" in script and "ssh-ed25519 AAAApublic" in script


def test_the_script_fits_in_what_vast_takes() -> None:
    assert len(launch.onstart(request(), START).encode()) <= launch.LONGEST_SCRIPT
    packed = launch.onstart(request(public_key=LONG_KEY), START)
    assert "base64" in packed and len(packed.encode()) <= launch.LONGEST_SCRIPT


def test_a_script_that_does_not_fit_is_refused_before_anything_is_rented() -> None:
    noise = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(200))
    with pytest.raises(Rejected, match="4000"):
        launch.onstart(request(public_key=noise), START)


@pytest.mark.process
@pytest.mark.parametrize("public_key", ["ssh-ed25519 AAAApublic", LONG_KEY], ids=["plain", "packed"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_puts_everything_in_its_place(tmp_path: Path, public_key: str, shell: str) -> None:
    """A machine's root and its /etc are folders here. The deadline is far away: nothing is asked of anybody."""
    script = launch.onstart(request(public_key=public_key, deadline=START + timedelta(days=9999)), START)
    if "base64" in script:
        packed = script.split("echo ")[1].split(" |")[0]
        done = subprocess.run(["sh", "-c", f"echo {packed} | base64 -d | gzip -dc"], capture_output=True, check=True)
        script = done.stdout.decode()
    for there, here in ((pods.HOME, tmp_path), ("/etc/environment", tmp_path / "env"), ("/usr/local", tmp_path)):
        script = script.replace(there, str(here))
    script = script.replace("trap '' HUP", "exit 0")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAAtheirs")  # whose last line has no end
    env = {"HOME": "/elsewhere", "PATH": os.environ["PATH"], "CUDA": "12", "CONTAINER_API_KEY": "rehearsal-own-key"}
    subprocess.run([shell, "-c", script], env=env, check=True, timeout=30)
    keys = (tmp_path / ".ssh/authorized_keys").read_text().splitlines()
    assert public_key in keys and "ssh-ed25519 AAAAtheirs" in keys
    assert (tmp_path / ".ssh/authorized_keys").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".no_auto_tmux").exists()
    assert "CUDA=12" in (tmp_path / "env").read_text().splitlines()
    assert "rehearsal-own-key" not in (tmp_path / "env").read_text(), "a key is not left on a disk"
    assert (tmp_path / ".gpujob/end").read_text().startswith("#!/bin/sh")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """A server's address, and what it was asked."""
    found: list[tuple[str, str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            found.append((self.command, self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.process
def test_a_machine_ends_itself_with_its_own_key(
    tmp_path: Path, asked: tuple[str, list[tuple[str, str, str | None]]]
) -> None:
    url, requests = asked
    script = tmp_path / "end"
    script.write_text(launch.END)
    env = {"CONTAINER_ID": "101", "CONTAINER_API_KEY": "own", "VAST_URL": url, "PATH": os.environ["PATH"]}
    subprocess.run(["sh", str(script)], env=env, check=True, timeout=60)
    assert requests == [("DELETE", "/api/v0/instances/101/", "Bearer own")]


def test_on_the_real_cloud_it_asks_the_real_one() -> None:
    assert "https://console.vast.ai" in launch.END
