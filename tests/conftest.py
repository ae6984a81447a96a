"""What holds for every test: no cloud's credentials, a home of its own, and nothing that a unit test must not do.

A test that lacks its machine part (Docker, PostgreSQL, sshd) is skipped and says so; with GPUJOB_REQUIRE_ALL=1, as
in CI, a skipped test fails the session.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import pytest_socket

from tests.support.postgres import server_programs

CREDENTIALS = ("AWS_", "RUNPOD_", "VAST_", "GPUJOB_")
REAL = ("process", "docker", "postgres", "sshd")
REQUIRE_ALL = os.environ.get("GPUJOB_REQUIRE_ALL") == "1"
TEST_IMAGE = "gpujob-test:base"
IMPOSSIBLE = "this machine cannot"  # how the reason of a skip begins that no package of the system could prevent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {"docker": _no_docker, "postgres": _no_postgres, "sshd": _no_sshd}
    for item in items:
        for name, reason in missing.items():
            if item.get_closest_marker(name) and (why := reason()):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(CREDENTIALS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GPUJOB_HOME", str(tmp_path / "gpujob-home"))


@pytest.fixture(autouse=True)
def unit_tests_touch_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without a marker: no socket, no waiting, no other program."""
    if any(request.node.get_closest_marker(name) for name in REAL):
        yield
        return
    pytest_socket.disable_socket()
    monkeypatch.setattr(time, "sleep", _refuse("sleeps"))
    monkeypatch.setattr(subprocess.Popen, "__init__", _refuse("starts a program"))
    yield
    pytest_socket.enable_socket()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if REQUIRE_ALL and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if REQUIRE_ALL and (skipped := _skipped(terminalreporter.config)):
        terminalreporter.section("GPUJOB_REQUIRE_ALL=1: no test may be skipped", red=True)
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {_reason(report)}")


def _skipped(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return [one for one in reporter.stats.get("skipped", []) if IMPOSSIBLE not in _reason(one)] if reporter else []


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


def _refuse(what: str) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError(f"a unit test {what}: inject the clock, or mark the test ({', '.join(REAL)})")

    return refuse


@cache
def _no_docker() -> str | None:
    if not shutil.which("docker"):
        return "Docker is not installed"
    if not _succeeds("docker", "version"):
        return "no Docker Engine answers"
    if not _succeeds("docker", "image", "inspect", TEST_IMAGE):
        return f"the image {TEST_IMAGE} is not built: tests/images/build.sh makes it"
    return None


@cache
def _no_postgres() -> str | None:
    try:
        server_programs()
    except FileNotFoundError as error:
        return str(error)
    return None


@cache
def _no_sshd() -> str | None:
    if shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return None
    return "OpenSSH's server sshd is not installed"


def _succeeds(*command: str) -> bool:
    quiet = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    return quiet.returncode == 0
