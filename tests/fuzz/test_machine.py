"""What a machine answers: a value of the documented type or an error of ours, bounded, and what is made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.machine import AgentError, Machine, Manifest, Visit
from jobs.spec import Spec
from jobs.transport.base import ByteRange, Completed
from jobs.transport.exchange import always
from jobs.transport.ranges import Question
from orchestrator.phases.fitness import shortcoming
from orchestrator.phases.jobfile import verdict
from orchestrator.records import AttemptOutcome
from providers.base import Traits
from tests.fakes.memory_provider import offer
from tests.fuzz.nonsense import DEEP, examples, replies

Json = dict[str, Any]

FACTS: Json = {
    "python": "3.11.7", "os": "linux", "arch": "x86_64", "hostname": "h", "cpus": 16, "memory_bytes": 64e9,
    "disk_free_bytes": 10**12, "cuda": "12.4", "time": 1795262400.0, "boot_id": "b", "cpu_model": "EPYC",
    "gpus": [{"name": "NVIDIA GeForce RTX 4090", "memory_mb": 24564, "driver": "550", "uuid": "GPU-1"}],
    "docker": {"ok": True, "version": "27", "program": "docker", "error": None},
}  # fmt: skip
STATE: Json = {"phase": "running", "since": 1.0, "beat": 17, "pid": 5, "runs_in": "container", "image_digest": None,
               "detail": "", "fallback": None}  # fmt: skip
EXIT: Json = {"reason": "exited", "exit_code": 0, "signal": None, "detail": "", "started_at": 1.0, "ended_at": 2.0,
              "setup_seconds": 0.5, "run_seconds": 0.5, "log_bytes": 7, "metrics_bytes": 0}  # fmt: skip
ENTRY: Json = {"path": "outputs/a", "bytes": 3, "mtime_ns": 10**18, "sha256": "0" * 64}
END: Json = {"end": True, "files": 1, "skipped": [{"path": "b", "why": "link"}]}
REFUSED: Json = {"error": "no space left on the machine's disk"}
DEEP_BUT_READ = '{"a":' * 400 + "1" + "}" * 400  # nested as far as one parser follows, and another may not

outputs = st.one_of(replies(FACTS), replies(REFUSED), st.just("\x1b]0;x\x07\n" * 60_000), st.just(DEEP), st.text())


class Answering:
    """A transport behind which a machine answers what the test wants."""

    may_go_on: Callable[[], bool] = staticmethod(always)

    def __init__(self, done: Completed | None = None, read: Sequence[bytes | None] = (), chunks: Iterable[bytes] = ()):
        self._done = done or Completed(0, b"{}", b"")
        self._read = list(read)
        self._chunks = chunks

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        return self._done

    def send(self, argv: Sequence[str], chunks: Iterable[bytes], *, timeout: float) -> Completed:
        for _ in chunks:
            pass
        return self._done

    @contextmanager
    def receive(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Iterator[Iterator[bytes]]:
        yield iter(self._chunks)

    def read(self, ranges: Sequence[ByteRange], *, timeout: float) -> list[bytes | None]:
        return self._read

    def close(self) -> None: ...


def printed(text: str, code: int = 0) -> Machine:
    raw = text.encode("utf-8", "surrogatepass")
    return Machine(Answering(Completed(code, raw, raw)), "/m")


def seen(state: bytes | None, ended: bytes | None) -> Visit | None:
    """What a visit makes of these records; None when it refuses them."""
    try:
        return Machine(Answering(read=[state, ended, b"", None, None, None]), "/m").visit({})
    except AgentError as error:
        _is_a_line(error)
        return None


@given(replies(FACTS))
@example(json.dumps({**FACTS, "gpus": [None, 1, {}, {"name": ["x"]}, FACTS["gpus"][0]]}))
@example(json.dumps({**FACTS, "gpus": {"name": "x"}, "docker": "yes", "memory_bytes": float("nan")}))
@example(json.dumps({**FACTS, "python": "²." + "9" * 5000}))
@example(json.dumps({**FACTS, "python": 3.11, "docker": {"ok": True}, "gpus": [{}] * 100_000}))
@example(DEEP_BUT_READ)
@examples(400)
def test_a_probe_gives_facts_and_a_verdict_on_them(text: str) -> None:
    try:
        facts = printed(text).probe()
    except AgentError as error:
        _is_a_line(error)
        return
    assert len(json.dumps(facts, allow_nan=False)) < 200_000
    assert set(facts) == set(FACTS) and len(facts["gpus"]) <= 64
    for name in ("python", "os", "arch", "hostname", "cpu_model", "cuda", "boot_id"):
        assert facts[name] is None or len(facts[name]) <= 200
    assert facts["docker"] is None or not facts["docker"]["ok"] or facts["docker"]["program"]
    spec = Spec.model_validate(
        {"name": "a", "run": "b", "image": "c", "resources": {"gpu": "RTX4090", "memory": "8GB", "disk": "9GB"}}
    )
    sold = offer(gpu="RTX4090", gpu_count=1, usd_per_hour="0.3")
    wrong = shortcoming(spec, sold, facts, Traits(is_container=False), image="c")
    assert wrong is None or (wrong and len(wrong) < 20_000)


@given(st.one_of(st.none(), replies(STATE)), st.one_of(st.none(), replies(EXIT)))
@example(None, json.dumps({**EXIT, "exit_code": "7"}))
@example(None, json.dumps({**EXIT, "exit_code": False}))
@example(None, json.dumps({**EXIT, "exit_code": 0.0}))
@example(None, json.dumps({**EXIT, "exit_code": [0], "reason": ["exited"], "detail": {"a": 1}}))
@example(None, json.dumps({**EXIT, "exit_code": 2**70, "run_seconds": float("nan"), "signal": 10**300}))
@example(json.dumps({**STATE, "beat": float("nan"), "phase": "x" * 60_000}), None)
@example(DEEP_BUT_READ, DEEP_BUT_READ)
@examples(500)
def test_a_visit_gives_records_of_the_documented_types(state: str | None, ended: str | None) -> None:
    look = seen(*(None if text is None else text.encode("utf-8", "surrogatepass") for text in (state, ended)))
    if look is None:
        return
    assert (look.state is None, look.exit is None) == (state is None, ended is None)
    json.dumps([look.state, look.exit], allow_nan=False)
    if look.state is not None:
        assert look.state["phase"] in (None, "pulling", "setup", "running", "stopping", "exited")
        assert look.state["beat"] is None or type(look.state["beat"]) is int
        assert len(look.state["detail"]) <= 2000 and len(look.state["fallback"] or "") <= 2000
    if look.exit is not None:
        code = look.exit["exit_code"]
        assert code is None or (type(code) is int and abs(code) < 2**32)
        outcome, error = verdict(look.exit, stop_reason=None)
        assert isinstance(outcome, AttemptOutcome) and (error is None or len(error) < 4000)
        seconds = look.exit["run_seconds"]
        assert seconds is None or math.isfinite(seconds)


@pytest.mark.parametrize("code", [False, 0.0, "0", [0], None, float("nan")])
def test_only_a_zero_is_success(code: object) -> None:
    look = seen(None, json.dumps({**EXIT, "exit_code": code}).encode())
    assert look is not None and look.exit is not None
    assert verdict(look.exit, stop_reason=None)[0] is AttemptOutcome.FAILED


@given(outputs, st.sampled_from((0, 2, 255, -9)))
@examples(150)
def test_every_command_is_done_or_says_why_in_a_line(text: str, code: int) -> None:
    machine = printed(text, code)
    for ask in (machine.alive, lambda: machine.start({}, {}), lambda: machine.stop("cancelled", 1.0), machine.install):
        try:
            assert ask() in (True, False, None)
        except AgentError as error:
            _is_a_line(error)


@given(outputs, st.sampled_from((0, 2)))
@examples(20)
def test_shipping_is_done_or_says_why(text: str, code: int) -> None:
    try:
        assert isinstance(printed(text, code).unpack(Path("/dev/null"), "0"), dict)
    except AgentError as error:
        _is_a_line(error)


@given(st.lists(st.one_of(replies(ENTRY), replies(END)), max_size=6), st.integers(1, 200))
@example([json.dumps({**ENTRY, "bytes": math.inf}), json.dumps(END)], 7)
@example([json.dumps({**ENTRY, "bytes": -1}), json.dumps(END)], 7)
@example([json.dumps({**ENTRY, "bytes": True, "mtime_ns": 10**4000}), json.dumps(END)], 7)
@example([json.dumps({**ENTRY, "sha256": ["0" * 64]}), json.dumps(END)], 7)
@example([json.dumps({**END, "skipped": "ab"})], 7)
@example([json.dumps({**END, "skipped": {"path": "a", "why": "b"}})], 7)
@example([DEEP], 200)
@examples(400)
def test_a_listing_is_files_or_refused(lines: list[str], size: int) -> None:
    raw = "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")
    chunks = (raw[start : start + size] for start in range(0, len(raw), size))
    try:
        found = Machine(Answering(chunks=chunks), "/m").manifest(["**"])
    except AgentError as error:
        _is_a_line(error)
        return
    assert isinstance(found, Manifest)
    for entry in found.files:
        assert type(entry.bytes) is int and 0 <= entry.bytes < 2**63 and type(entry.mtime_ns) is int
        assert isinstance(entry.path, str) and (entry.sha256 is None or isinstance(entry.sha256, str))
    assert all(isinstance(path, str) and len(why) <= 400 and "\n" not in why for path, why in found.skipped)


def test_a_line_that_comes_byte_by_byte_takes_no_longer_than_it_has_bytes() -> None:
    """Joined anew with each byte, a mebibyte would take minutes."""
    raw = json.dumps({**ENTRY, "path": "a" * 1_000_000}).encode() + b"\n" + json.dumps(END).encode()
    found = Machine(Answering(chunks=(raw[at : at + 1] for at in range(len(raw)))), "/m").manifest(["**"])
    assert len(found.files) == 1


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from((b"file\n", b"missing\n", b"\n", b"MARK"))), max_size=12)
)
@examples(300)
def test_ranges_are_bytes_or_refused(parts: list[bytes]) -> None:
    question = Question([ByteRange("/a", 0, 5), ByteRange("/b", 7, 5)])
    raw = b"".join(parts).replace(b"MARK", b"\n" + question.argv[4].encode() + b"\n")
    try:
        found = question.answer(Completed(0, raw, b"\xff" * 10_000))
    except ValueError as error:
        assert len(str(error)) < 1000
    else:
        assert len(found) == 2 and all(part is None or len(part) <= 5 for part in found)


def _is_a_line(error: AgentError) -> None:
    said = str(error)
    assert len(said) <= 1000 and said.isprintable(), said
