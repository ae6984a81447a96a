"""The fake machine is told apart from a real one by nobody: same methods, and an agent's behaviour by its script."""

from __future__ import annotations

import inspect
import io
import math
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.machine import AgentError, Machine
from jobs.transport.base import TransportError
from providers.base import LaunchRequest
from tests.fakes.clock import FakeClock
from tests.fakes.fake_machine import FakeMachine, FakeMachines, Script, metric_lines
from tests.fakes.memory_provider import MemoryProvider

METHODS = [name for name in vars(Machine) if not name.startswith("_")]


def running(clock: FakeClock, script: Script, **job: object) -> FakeMachine:
    machine = FakeMachine(clock, script)
    machine.start(job, {})
    return machine


def ended(machine: FakeMachine) -> tuple[object, object] | None:
    record = machine.visit({}).exit
    return None if record is None else (record["reason"], record["exit_code"])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_signature_of_the_real_one(method: str) -> None:
    assert inspect.signature(getattr(FakeMachine, method)) == inspect.signature(getattr(Machine, method))


def test_a_job_is_started_once() -> None:
    machine = FakeMachine(FakeClock())
    assert machine.visit({}).state is None and not machine.alive()
    assert [machine.start({}, {"TOKEN": "t"}), machine.start({}, {})] == [True, False]
    assert (machine.started, machine.secrets, machine.alive()) == (1, {"TOKEN": "t"}, True)


def test_streams_appear_at_their_times_by_offset_and_limit() -> None:
    clock = FakeClock()
    script = Script(
        seconds=60, setup_seconds=5, log=[(0, b"one\n"), (10, b"two\n")], metrics=metric_lines((1, {"a": 1}))
    )
    machine = running(clock, script)
    assert machine.visit({}).new["log"] == b""
    clock.advance(6)
    assert machine.visit({}).new == {"log": b"one\n", "metrics": b'{"a": 1}\n', "telemetry": b"", "events": b""}
    clock.advance(10)
    assert machine.visit({"log": 4}).new["log"] == b"two\n"
    cut = machine.visit({"log": 2}, limit=3)
    assert (cut.new["log"], cut.drained) == (b"e\nt", False)


@pytest.mark.parametrize(
    ("script", "job", "after", "record"),
    [
        (Script(seconds=10), {}, 9, None),
        (Script(seconds=10), {}, 10, ("exited", 0)),
        (Script(seconds=10, exit_code=3), {}, 99, ("exited", 3)),
        (Script(seconds=0, reason="image"), {}, 0, ("image", 0)),
        (Script(seconds=math.inf), {"max_duration_seconds": 20}, 20, ("max_duration", None)),
        (Script(seconds=math.inf), {"deadline_seconds": 30}, 30, ("deadline", None)),
        (Script(seconds=10, agent_dies_at=5), {}, 99, None),
    ],
)
def test_how_a_job_ends(
    script: Script, job: dict[str, object], after: float, record: tuple[object, object] | None
) -> None:
    clock = FakeClock()
    machine = running(clock, script, **job)
    clock.advance(after)
    assert ended(machine) == record


def test_a_dead_agent_stops_its_beat_and_its_log() -> None:
    clock = FakeClock()
    machine = running(clock, Script(seconds=60, agent_dies_at=5, log=[(1, b"a"), (9, b"b")]))
    clock.advance(10)
    first = machine.visit({})
    clock.advance(10)
    second = machine.visit({})
    assert first.new["log"] == second.new["log"] == b"a"
    assert first.state == second.state and not machine.alive()


def test_stop_takes_as_long_as_the_job_but_at_most_the_grace() -> None:
    clock = FakeClock()
    quick, stubborn = running(clock, Script(seconds=99)), running(clock, Script(seconds=99, stop_seconds=60))
    for machine in (quick, stubborn):
        machine.stop("cancelled", 30)
    assert ended(quick) == ("stopped", None)
    assert ended(stubborn) is None and (stubborn.visit({}).state or {})["phase"] == "stopping"
    clock.advance(30)
    assert ended(stubborn) == ("stopped", None)


def test_files_are_described_packed_and_cut() -> None:
    clock = FakeClock()
    files = [(0, "out/a.bin", b"abc"), (5, "out/deep/b.bin", b"later"), (0, "c.txt", b"c")]
    machine = running(clock, Script(seconds=60, files=files))
    assert [entry.path for entry in machine.manifest(["out/**"]).files] == ["out/a.bin"]
    clock.advance(5)
    assert [entry.path for entry in machine.manifest(["out"]).files] == ["out/a.bin", "out/deep/b.bin"]
    assert [entry.path for entry in machine.manifest(["*.txt", "**/*.bin"]).files] == [
        "c.txt",
        "out/a.bin",
        "out/deep/b.bin",
    ]
    with machine.pack(["out/a.bin", "gone"]) as chunks, tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        assert tar.getnames() == ["out/a.bin"]
    with machine.cut("out/a.bin", 1, 5) as chunks:
        assert b"".join(chunks) == b"bc"
    with pytest.raises(AgentError), machine.cut("gone", 0, 1):
        pass


def test_out_of_reach_for_a_time() -> None:
    clock = FakeClock()
    machine = FakeMachine(clock, Script(unreachable=[(5, 10)]))
    machine.probe()
    clock.advance(5)
    with pytest.raises(TransportError):
        machine.unpack(Path("nothing"), "digest")
    clock.advance(5)
    assert machine.probe()["cpus"] == 16


def test_machines_live_and_die_with_their_cloud() -> None:
    clock = FakeClock()
    cloud = MemoryProvider(clock)
    machines = FakeMachines(clock, cloud, lambda name: Script(exit_code=7, seconds=1))
    deadline = clock() + timedelta(hours=1)
    request = LaunchRequest(name="m-1", owner="a", run_id="r", attempt=1, deadline=deadline, disk_gb=1)
    made = cloud.create(cloud.rentable[0], request)
    machines.connect("m-1", made.access, None).start({}, {})
    assert not machines.connect("m-1", made.access, None).start({}, {}), "a second connection, the same machine"
    cloud.terminate(made.id)
    with pytest.raises(TransportError):
        machines["m-1"].visit({})
    assert machines.started == 1
