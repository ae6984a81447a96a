"""The machine under the job: its facts, its telemetry, its memory and its disk."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs.agent.conftest import Host, python
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

NVIDIA_SMI = """\
#!/bin/sh
echo "$@" >> "$0.calls"
case "$*" in
*driver_version*) echo "NVIDIA H200, 143771, 570.86.15, GPU-1"; echo "NVIDIA H200, 143771, 570.86.15, GPU-2" ;;
*utilization.gpu*) echo "0, 97, 1024, 143771, 512.25, 61"; echo "1, 0, 3, 143771, [N/A], 30" ;;
*) echo "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8 |" ;;
esac
"""


@pytest.fixture
def with_program(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """An environment whose PATH has a program of that name."""

    def put(name: str, script: str) -> dict[str, str]:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
        return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    return put


def test_probe_tells_what_the_machine_is(
    make_host: Callable[..., Host], with_program: Callable[..., dict[str, str]]
) -> None:
    facts = make_host(with_program("nvidia-smi", NVIDIA_SMI)).ask("probe")
    first = {"name": "NVIDIA H200", "memory_mb": 143771, "driver": "570.86.15", "uuid": "GPU-1"}
    assert facts["gpus"] == [first, {**first, "uuid": "GPU-2"}]
    assert (facts["cuda"], facts["os"]) == ("12.8", "linux")
    assert facts["cpus"] <= (os.cpu_count() or 1)
    assert facts["memory_bytes"] > 10**8 and facts["disk_free_bytes"] > 10**6
    assert set(facts) == {
        "python", "os", "arch", "hostname", "cpus", "cpu_model", "memory_bytes", "disk_free_bytes", "gpus", "cuda",
        "docker", "time", "boot_id",
    }  # fmt: skip


def test_probe_without_gpus_and_docker(
    make_host: Callable[..., Host], with_program: Callable[..., dict[str, str]]
) -> None:
    broken = with_program("docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2; exit 1\n")
    host = make_host({**broken, "DOCKER_HOST": "unix:///none"})
    facts = host.ask("probe")
    assert (facts["gpus"], facts["cuda"], facts["docker"]["ok"]) == ([], None, False)
    assert facts["docker"]["error"]


def test_a_docker_that_hangs_does_not_hold_up_the_probe(
    make_host: Callable[..., Host], with_program: Callable[..., dict[str, str]]
) -> None:
    path = with_program("docker", "#!/bin/sh\nexec sleep 60\n")["PATH"]
    host = make_host({"PATH": path, "DOCKER_HOST": "unix:///none"})
    assert host.ask("probe", timeout=20)["docker"]["ok"] is False


def test_telemetry_at_once_then_regularly_then_at_the_end(host: Host) -> None:
    host.start("sleep 1.3", telemetry_seconds=0.5)
    host.wait_for_phase("running")
    assert len(host.telemetry()) >= 1
    host.wait()
    samples = host.telemetry()
    assert 4 <= len(samples) <= 6
    assert samples[-1]["time"] - samples[0]["time"] > 1.2
    for sample in samples:
        assert 0 < sample["memory_used_bytes"] < sample["memory_total_bytes"]
        assert sample["disk_free_bytes"] > 0 and sample["load1"] >= 0 and sample["gpus"] == []
    assert 0 <= samples[1]["cpu_percent"] <= 100
    assert samples[-1]["network_rx_bytes"] >= samples[0]["network_rx_bytes"]


def test_gpu_telemetry(make_host: Callable[..., Host], with_program: Callable[..., dict[str, str]]) -> None:
    host = make_host(with_program("nvidia-smi", NVIDIA_SMI))
    host.start("sleep 0.5", telemetry_seconds=0.3)
    host.wait()
    busy = {
        "index": 0,
        "utilization": 97,
        "memory_used_mb": 1024,
        "memory_total_mb": 143771,
        "power_watts": 512.25,
        "temperature_c": 61,
    }
    idle = {
        "index": 1,
        "utilization": 0,
        "memory_used_mb": 3,
        "memory_total_mb": 143771,
        "power_watts": None,
        "temperature_c": 30,
    }
    assert all(sample["gpus"] == [busy, idle] for sample in host.telemetry())  # fmt: skip


def test_a_broken_nvidia_smi_is_given_up_with_a_word(
    make_host: Callable[..., Host], with_program: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    host = make_host(with_program("nvidia-smi", '#!/bin/sh\necho call >> "$0.calls"; echo "GPU is lost"; exit 15\n'))
    host.start("sleep 2", telemetry_seconds=0.2)
    assert host.wait()["reason"] == "exited"
    assert (tmp_path / "bin" / "nvidia-smi.calls").read_text().count("call") == 3
    assert host.events().count("warning") == 1
    assert len(host.telemetry()) > 5


def test_a_hung_nvidia_smi_stops_neither_beat_nor_job(
    make_host: Callable[..., Host], with_program: Callable[..., dict[str, str]]
) -> None:
    host = make_host(with_program("nvidia-smi", "#!/bin/sh\nexec sleep 600\n"))
    agent = host.root / "agent.py"
    agent.write_text(agent.read_text().replace("GPU_QUERY_SECONDS = 5.0", "GPU_QUERY_SECONDS = 1.0"))
    host.start("sleep 3", telemetry_seconds=0.5)
    host.wait_for_phase("running")
    beat = host.state()["beat"]
    eventually(lambda: host.state()["beat"] > beat, 2)
    assert host.wait()["reason"] == "exited"
    host.wait_until_quiet()


# -- a full disk


def test_a_full_disk_under_the_job(small_disk: Callable[[int], Path], make_host: Callable[..., Host]) -> None:
    """The record must come, and say why; the beat must go on while the disk is full."""
    host = make_host(root=small_disk(4) / "machine")
    host.start("cat /dev/zero > filler || { sleep 3; exit 28; }", telemetry_seconds=0.3)
    eventually(lambda: b"No space" in host.log() or shutil.disk_usage(host.root).free == 0, 10)
    beat = host.state()["beat"]
    eventually(lambda: host.state()["beat"] > beat + 1, 5)
    record = host.wait()
    assert (record["reason"], record["exit_code"]) == ("exited", 28)
    assert record["detail"] == "no space left on the machine's disk"
    host.wait_for_phase("exited")
    host.wait_until_quiet()


def test_a_log_that_fills_the_disk(small_disk: Callable[[int], Path], make_host: Callable[..., Host]) -> None:
    host = make_host(root=small_disk(4) / "machine")
    host.start("cat /dev/zero")
    record = host.wait()
    assert (record["reason"], record["detail"]) == ("exited", "no space left on the machine's disk")
    assert record["log_bytes"] == (host.root / "log").stat().st_size > 3_000_000


def test_a_stop_on_a_full_disk(small_disk: Callable[[int], Path], make_host: Callable[..., Host]) -> None:
    host = make_host(root=small_disk(4) / "machine")
    host.start("cat /dev/zero > filler || sleep 600", max_duration_seconds=1.5, grace_seconds=1)
    assert host.wait()["reason"] == "max_duration"


def test_a_runner_killed_on_a_full_disk(small_disk: Callable[[int], Path], make_host: Callable[..., Host]) -> None:
    host = make_host(root=small_disk(4) / "machine")
    host.start("cat /dev/zero > filler || sleep 600", grace_seconds=0.5)
    eventually(lambda: shutil.disk_usage(host.root).free == 0, 10)
    host.kill(host.runner())
    assert host.wait()["reason"] == "agent"
    host.wait_until_quiet()


def test_a_disk_that_is_full_before_the_start(
    small_disk: Callable[[int], Path], make_host: Callable[..., Host]
) -> None:
    host = make_host(root=small_disk(2) / "machine")
    (host.root / "job.json").write_text(json.dumps({"run": "echo never", "run_id": "r"}))
    with (host.root / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 65536) == 65536 and shutil.disk_usage(host.root).free:
            pass
    done = host.call("start", stdin=b"{}")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "no space left on the machine's disk"
    (host.root / "filler").unlink()
    assert host.ask("start")["started"] is True
    host.wait()


# -- memory


@pytest.fixture
def memory_limit() -> Iterator[Path]:
    """A control group that may use 256 MB."""
    name = f"gpujob-test-{uuid.uuid4().hex[:8]}"
    for group, limit in (
        (Path("/sys/fs/cgroup/memory") / name, "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup") / name, "memory.max"),
    ):
        try:
            group.mkdir()
            (group / limit).write_text(str(256 * 1024 * 1024))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        eventually(lambda group=group: not (group / "cgroup.procs").read_text(), 10)  # type: ignore[misc]
        group.rmdir()
        return
    pytest.skip("may not make a control group with a memory limit")


def test_a_job_killed_for_memory(host: Host, memory_limit: Path) -> None:
    host.enter(memory_limit / "cgroup.procs")
    host.start(python("x = []\nwhile True:\n    x.append(bytearray(10_000_000))"))
    record = host.wait()
    assert record["reason"] == "oom"
    assert record["exit_code"] == 137
    assert "memory" in record["detail"]


def test_a_job_that_kills_itself_is_no_oom(host: Host) -> None:
    host.start("kill -KILL $$")
    record = host.wait()
    assert (record["reason"], record["signal"]) == ("exited", 9)
