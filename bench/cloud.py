"""From submit to the first line, and from the job's exit to the terminate, on simulated clouds that boot at once.

Beside it a shell script does the same by hand, with curl, ssh and tar, at the pace that the cloud allows. Targets: at
most 1.5 times its time to the first line; at most 3 s more than the artifacts take until the cloud is told to end it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from bench.measure import GPUJOB, clean_environment, spread, table
from providers.rehearsal.cloud import SimulatedCloud
from providers.rehearsal.machines.docker import DockerMachines
from providers.rehearsal.web import Served

ROUNDS = 5
TARGET_TIMES, TARGET_SECONDS = 1.5, 3.0
MEGABYTES = 200
IMAGE = "gpujob-test:base"
GPUS = {"runpod": "RTX4090", "vast": "RTX3090"}
_PATIENCE = 60.0

# The last line says when the job ended.
JOB = """\
import os, pathlib, sys, time
print(time.time(), flush=True)
if megabytes := int(sys.argv[1]):
    pathlib.Path("outputs").mkdir()
    pathlib.Path("outputs/model.bin").write_bytes(os.urandom(megabytes * 1_000_000))
print(time.time(), flush=True)
"""

_ASK = """\
set -eu
folder=$1; megabytes=$2; key=$folder/key
ask() { method=$1; path=$2; shift 2; curl -sS -f -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
    -X "$method" "$URL$path" "$@"; }
ssh-keygen -q -t ed25519 -N '' -f "$key"
public=$(cat "$key.pub")
"""

_CHOOSE = {
    "vast": """\
offer=$(ask POST /api/v0/bundles/ -d '{"limit":5,"order":[["dph_total","asc"]],"rentable":{"eq":true},
    "verified":{"eq":true},"gpu_name":{"eq":"RTX 3090"},"num_gpus":{"eq":1},"direct_port_count":{"gte":1}}' |
    jq -r '.offers[0].id')
put='mkdir -p /root/.ssh && echo '$public' >>/root/.ssh/authorized_keys'
pod=$(jq -n --arg image "$IMAGE" --arg put "$put" '{client_id: "me", image: $image, disk: 10, label: "by-hand",
    runtype: "ssh_direc ssh_proxy", cancel_unavail: true, env: {}, onstart: $put}' |
    ask PUT "/api/v0/asks/$offer/" -d @- | jq -r .new_contract)
where() { ask GET /api/v1/instances/ | jq -r --argjson pod "$pod" '.instances[] | select(.id == $pod) |
    select(.actual_status == "running") | "\\(.public_ipaddr | gsub(" "; "")) \\(.ports["22/tcp"][0].HostPort)"'; }
end() { ask DELETE "/api/v0/instances/$pod/"; }
""",
    "runpod": """\
ask GET '/v2/catalog/gpus?include=AVAILABILITY&product=POD&cloud=SECURE&count=1' |
    jq -e '.gpus[] | select(.id == "NVIDIA GeForce RTX 4090")' >/dev/null
start="sh -c 'mkdir -p /root/.ssh /run/sshd && echo \\"\\$PUBLIC_KEY\\" >/root/.ssh/authorized_keys
chmod 700 /root/.ssh; sed -i s/^root:!/root:x/ /etc/shadow; ssh-keygen -A >/dev/null
exec /usr/sbin/sshd -D -o UsePAM=no'"
pod=$(jq -n --arg image "$IMAGE" --arg key "$public" --arg start "$start" '{name: "by-hand", image: $image,
    cloud: "SECURE", disk: 10, ports: ["22/tcp"], env: {PUBLIC_KEY: $key}, args: $start, startSsh: false,
    gpu: {id: "NVIDIA GeForce RTX 4090", count: 1}}' | ask POST /v2/pods -d @- | jq -r .id)
where() { ask GET "/v2/pods/$pod" | jq -r '.runtime.ports[]? | select(.private == 22 and .type == "tcp" and .public) |
    "\\(.ip) \\(.public)"'; }
end() { ask DELETE "/v2/pods/$pod"; }
""",
}

# Both clouds allow a list each second. The copy is timed as one stream over the connection's own way in.
_RUN = """\
trap "end >/dev/null" EXIT
until at=$(where) && [ -n "$at" ]; do sleep 1; done
host=${at%% *}; port=${at##* }
on() { ssh -q -i "$key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes \\
    -o ConnectTimeout=5 "root@$host" "$@"; }
until tar -C "$folder/job" -cf - . | on 'mkdir -p /root/job && tar -C /root/job -xf -'; do sleep 0.2; done
on "cd /root/job && python3 job.py $megabytes"
if [ "$megabytes" != 0 ]; then
    began=$(date +%s.%N)
    on 'tar -C /root/job -cf - outputs' | tar -C "$folder" -xf -
    echo "copy $began $(date +%s.%N)"
fi
"""


@dataclass(frozen=True)
class Sample:
    """One job, in seconds."""

    seen: float  # the first line, from the start of the command
    written: float
    until_terminate: float  # the cloud has accepted it, after the job's last words
    copy: float


Samples = dict[int, list[Sample]]  # by megabytes of artifacts


def report() -> str:
    taken = {name: _taken(name) for name in GPUS}
    lines = [_first_line(name, *taken[name]) for name in GPUS]
    ends = [_end(name, megabytes, *taken[name]) for name in GPUS for megabytes in (0, MEGABYTES)]
    title = f"From submit to the first line, on a simulated cloud that boots at once (medians of {ROUNDS}, and range)"
    columns = [
        "cloud",
        "by hand, seen after s",
        "submit, written after s",
        "submit, seen after s",
        "times by hand",
        "at most",
    ]
    first = table(title, columns, lines)
    title = f"From the job's exit to the accepted terminate (medians of {ROUNDS}, and range)"
    columns = ["cloud", "artifacts MB", "terminate accepted after s", "plain copy of the artifacts s", "at most s"]
    return first + "\n" + table(title, columns, ends)


def _taken(name: str) -> tuple[Samples, Samples]:
    """By hand and by gpujob, in turn."""
    hand: Samples = {0: [], MEGABYTES: []}
    ours: Samples = {0: [], MEGABYTES: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for megabytes in hand:
                hand[megabytes].append(by_hand(name, Path(folder) / f"hand-{number}-{megabytes}", megabytes))
                ours[megabytes].append(by_gpujob(name, Path(folder), megabytes))
    return hand, ours


def _first_line(name: str, hand: Samples, ours: Samples) -> list[str]:
    by_hand, seen = [one.seen for one in hand[0]], [one.seen for one in ours[0]]
    written = spread([one.written for one in ours[0]])
    times = f"{median(seen) / median(by_hand):.2f}"
    return [name, spread(by_hand), written, spread(seen), times, f"{TARGET_TIMES:.1f}"]


def _end(name: str, megabytes: int, hand: Samples, ours: Samples) -> list[str]:
    copies = [one.copy for one in hand[megabytes]]
    waited = spread([one.until_terminate for one in ours[megabytes]])
    return [name, str(megabytes), waited, spread(copies), f"{TARGET_SECONDS + median(copies):.2f}"]


def by_hand(name: str, folder: Path, megabytes: int) -> Sample:
    _job(folder / "job")
    with _served(name) as cloud:
        env = cloud.environment()
        base, key = ("RUNPOD_API_BASE_URL", "RUNPOD_API_KEY") if name == "runpod" else ("VAST_URL", "VAST_API_KEY")
        script = _ASK + _CHOOSE[name] + _RUN
        given = {**os.environ, "URL": env[base], "KEY": env[key], "IMAGE": IMAGE}
        return _sample(["sh", "-c", script, "by-hand", str(folder), str(megabytes)], given, cloud)


def by_gpujob(name: str, folder: Path, megabytes: int) -> Sample:
    job, home = folder / "job", folder / "home"
    _job(job)
    spec: dict[str, object] = {
        "name": "bench",
        "image": IMAGE,
        "run": f"python3 job.py {megabytes}",
        "resources": {"gpu": GPUS[name], "disk": "10GB"},
        "place": {"providers": [name]},
    }
    (job / "train.yaml").write_text(json.dumps({**spec, "artifacts": ["outputs/**"]} if megabytes else spec))
    _until_no_controller_runs(home)
    with _served(name) as cloud:
        env = {**clean_environment(home), **cloud.environment()}
        return _sample([GPUJOB, "submit", str(job / "train.yaml"), "--yes"], env, cloud)


@contextmanager
def _served(name: str) -> Iterator[SimulatedCloud]:
    """A new cloud for each job: what one asked does not count against the next one's rate limit."""
    cloud: SimulatedCloud
    if name == "vast":
        from providers.rehearsal.vast.cloud import VastCloud

        vast = VastCloud(DockerMachines())
        vast.vast.contracts.least_boot = timedelta()
        cloud = vast
    else:
        from providers.rehearsal.runpod.cloud import RunpodCloud

        cloud = RunpodCloud(DockerMachines(), rate_limits=True)
        for host in cloud.market.hosts:
            host.has_public_ip = True
    with Served(cloud):
        yield cloud


def _job(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.py").write_text(JOB)


def _sample(command: list[str], env: Mapping[str, str], cloud: SimulatedCloud) -> Sample:
    began, monotonic = time.time(), time.monotonic()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        patience = threading.Timer(_PATIENCE, process.kill)
        patience.start()
        first = process.stdout.readline()
        seen = time.monotonic() - monotonic
        rest = process.stdout.read()
        complaint = process.stderr.read()
        patience.cancel()
    if process.returncode != 0 or not first:
        raise RuntimeError(f"exit code {process.returncode}: {complaint}")
    copies = [float(end) - float(begin) for begin, end in re.findall(r"^copy (\S+) (\S+)$", rest, re.MULTILINE)]
    last = float(rest.splitlines()[-1 - len(copies)])
    accepted = next(asked.at.timestamp() for asked in cloud.requests if asked.call == "terminate" and not asked.fault)
    return Sample(seen, float(first) - began, accepted - last, copies[0] if copies else 0.0)


def _until_no_controller_runs(home: Path) -> None:
    from orchestrator.background import is_running
    from orchestrator.home import Home

    while is_running(Home(home)):
        time.sleep(0.2)
