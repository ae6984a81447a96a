"""A job's secrets are in its own memory and nowhere else, also when it prints them: not in the home, the process list,
the outputs of commands, or on the machine's disk; neither as they are nor in base64, in hex or as part of an address.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from providers.rehearsal.machines.process import ProcessMachines
from tests.e2e.clouds import alive, job_on, served
from tests.e2e.driver import Gpujob
from tests.support.processes import processes

pytestmark = pytest.mark.process

# Of no word that a path, a log or a name has; with signs that JSON, addresses and shells write otherwise.
VALUES = {
    "EXPORTED": "exported/7f3a+Qz'9\"x w\\n",
    "FILED": "filed-&c1e8=%4b%",
    "REGISTRY_PASSWORD": "pa55/w0rd+8d2c0e",
}
TELL = (
    "import json, os, sys, time\n"
    "values = [os.environ[name] for name in ('EXPORTED', 'FILED')]\n"
    "for value in values:\n"
    "    print(value, 'and', value * 2, flush=True)\n"
    "    print(value, file=sys.stderr, flush=True)\n"
    "    with open(os.environ['GPUJOB_METRICS'], 'a') as metrics:\n"
    "        metrics.write(json.dumps({value: 1, 'name': value, 'loss': 0.5}) + '\\n')\n"
    "open('scratch', 'w').write(' '.join(values))\n"
    "time.sleep(2)\n"
    "print('told', flush=True)\n"
)
JOB: dict[str, Any] = {"secrets": ["EXPORTED", "FILED"]}


@pytest.fixture
def telling(gpujob: Gpujob) -> Gpujob:
    gpujob.home.mkdir()
    secrets = gpujob.home / "secrets.env"
    secrets.write_text(f"FILED={VALUES['FILED']}\nREGISTRY_PASSWORD={VALUES['REGISTRY_PASSWORD']}\n")
    secrets.chmod(0o600)
    gpujob.env["EXPORTED"] = VALUES["EXPORTED"]
    return gpujob


def test_on_this_computer(telling: Gpujob) -> None:
    spec = telling.job(run="python3 tell.py", files={"tell.py": TELL}, **JOB)
    with watched_processes() as seen:
        run = telling.submit(spec)
        shown = telling.wait(run)
    assert shown["outcome"] == "succeeded", shown
    assert_nowhere(telling, run, seen)


def test_at_a_cloud_with_the_login_of_a_registry(telling: Gpujob) -> None:
    with served("runpod", machines=ProcessMachines()) as cloud:
        telling.env.update(cloud.environment())
        registry = {"server": "ghcr.io", "username": "ada", "password": "REGISTRY_PASSWORD"}
        spec = job_on(cloud, telling, "python3 tell.py", registry=registry, limits={"max_price_per_hour": "5"}, **JOB)
        (spec.parent / "tell.py").write_text(TELL)
        with watched_processes() as seen:
            run = telling.submit(spec)
            shown = telling.wait(run, timeout=240)
        assert shown["outcome"] == "succeeded", telling("show", run, "--events").stdout
        assert alive(cloud) == []
        assert_nowhere(telling, run, seen)


def assert_nowhere(gpujob: Gpujob, run: str, seen: dict[str, str]) -> None:
    """The job did tell: where its secrets were are stars."""
    log = gpujob.log(run)
    assert b"told" in log and b"****" in log
    assert (gpujob.home / "runs" / run / "report.html").exists()
    places = {str(path.relative_to(gpujob.root)): path.read_bytes() for path in files_of(gpujob)}
    for command in (("show", run), ("show", run, "--events"), ("show", run, "--json"), ("cost", run, "--json"),
                    ("logs", run), ("metrics", run), ("metrics", run, "--json"), ("ps", "--json")):  # fmt: skip
        done = gpujob(*command)
        places[f"gpujob {' '.join(command)}"] = (done.stdout + done.stderr).encode(errors="surrogateescape")
    places.update({f"process {what}": said.encode(errors="surrogateescape") for what, said in seen.items()})
    found = [f"{name} in {place}" for place, said in places.items() for name in VALUES if is_told(name, said)]
    assert found == []
    handed_over = [path for place in ("/dev/shm", "/tmp") for path in Path(place).glob(f"gpujob-*/{run}.json")]
    assert handed_over == []


def files_of(gpujob: Gpujob) -> Iterator[Path]:
    """All that is below the home, but the user's own file of secrets."""
    for path in gpujob.home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path != gpujob.home / "secrets.env":
            yield path


def is_told(name: str, said: bytes) -> bool:
    return any(form in said for form in forms(VALUES[name]))


def forms(value: str) -> set[bytes]:
    """The value as it is, and as it may have been written. Base64 of it wherever it begins within three bytes."""
    raw = value.encode()
    shifted = {base64.b64encode(b"x" * before + raw)[4 if before else 0 : -4] for before in range(3)}
    return {raw, quote(value).encode(), quote(value, safe="").encode(), raw.hex().encode(), *shifted}


@contextmanager
def watched_processes() -> Iterator[dict[str, str]]:
    """Every command line there was; and environments, but of the job, its agent, and who was given the secret: us."""
    seen: dict[str, str] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for pid, command, env in processes():
                seen[f"{pid} {command}"] = command
                if "GPUJOB_MACHINE=" not in env and "/gpujob " not in command:
                    seen[f"{pid} {command} (environment)"] = env

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
