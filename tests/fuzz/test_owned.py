"""Computers of one's own that answer nonsense: host.py's answers, its records on the disk, nvidia-smi's lines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers import owned
from providers.base import Instance, LocalAccess, OfferQuery, Settings
from providers.errors import ProviderError
from providers.local.provider import LocalProvider, gpus_of
from providers.ssh.client import NoSense, _answer
from providers.ssh.inventory import Host
from providers.ssh.provider import SshProvider
from tests.fakes.clock import START, FakeClock
from tests.fuzz import sense
from tests.fuzz.nonsense import DEEP, WORDS, examples, junk, mutated, replies
from tests.providers.test_ssh_provider import Computer

Json = dict[str, Any]

MACHINE: Json = {
    "name": "gpujob-r-1-1-1",
    "owner": "alice",
    "run_id": "r-1",
    "attempt": 1,
    "created_at": START.timestamp(),
    "deadline": START.timestamp() + 3600,
    "usd_per_hour": "0.25",
    "gpu_ids": [0],
    "gpu_total": 2,
    "status": "running",
    "detail": "",
    "directory": "/home/ada/.gpujob/machines/gpujob-r-1-1-1",
}
LINE: Json = {
    "name": "gpujob-r-1-1-1",
    "start": START.timestamp(),
    "end": START.timestamp() + 60,
    "usd_per_hour": "0.25",
}
BILL: Json = {"bill": [LINE], "machine": MACHINE, "now": START.timestamp() + 90}


def _shown(machine: Any) -> Instance:
    return owned.instance(
        machine, provider="ssh", instance_id="tower/x", region="tower", host_id="tower",
        access=lambda directory, env: LocalAccess(directory=directory, env=env),
    )  # fmt: skip


@given(mutated(MACHINE))
@example({**MACHINE, "usd_per_hour": "NaN"})
@example({**MACHINE, "usd_per_hour": "-1"})
@example({**MACHINE, "created_at": float("inf")})
@example({**MACHINE, "deadline": 10**30})
@example({**MACHINE, "gpu_ids": [float("inf")]})
@example({**MACHINE, "status": "A" * 20_000})
@examples(400)
def test_a_machine_is_shown_or_said_to_be_unreadable(machine: Any) -> None:
    try:
        sense.instance(_shown(machine))
    except ProviderError as error:
        sense.error(error)


@given(mutated(BILL))
@example({**BILL, "bill": [{**LINE, "usd_per_hour": "Infinity"}]})
@example({**BILL, "bill": [{**LINE, "end": 1e300}]})
@example({**BILL, "bill": 7})
@examples(300)
def test_a_bill_is_one_or_is_said_to_be_unreadable(answer: Any) -> None:
    try:
        found = owned.charges(answer, since=START.replace(year=2000), provider="ssh", source="tower")
    except ProviderError as error:
        return sense.error(error)
    for charge in found:
        sense.charge(charge)
    return None


@given(junk)
@example("no")
@example(["x" * 20_000])
@example({"kind": ["x"], "message": "A" * 20_000})
@examples(200)
def test_a_refusal_is_an_error_of_ours(error: Any) -> None:
    found = owned.refusal(error, provider="ssh", where="tower")
    assert isinstance(found, ProviderError)
    sense.error(found)


@given(replies({"machines": [MACHINE]}), st.integers(-1, 255))
@example(DEEP, 0)
@example("motd\n" + DEEP, 0)
@examples(200)
def test_what_a_login_prints_is_an_answer_or_none(text: str, exit_code: int) -> None:
    try:
        found = _answer(exit_code, text.encode("utf-8", "replace"), b"\xff" * 1000)
    except NoSense as error:
        return sense.error(error)
    assert isinstance(found, dict) and exit_code == 0
    return None


@given(mutated({"machine": MACHINE, "machines": [MACHINE], "bill": [LINE], "now": 1.0, "missing": False}))
@example({"error": "text"})
@example({})
@example({"machines": None})
@example({"machines": "x"})
@examples(300)
def test_whatever_a_computer_answers_it_is_machines_or_an_error(answer: Any) -> None:
    says = answer if isinstance(answer, dict) else {}

    def connect(host: Host) -> Computer:
        return Computer(host, Path("/nowhere"), says=says)

    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "hosts.toml").write_text('[[host]]\nname = "tower"\nhost = "10.0.0.1"\nuser = "ada"\n')
        ssh = SshProvider(Settings(home=Path(home), env={}, now=FakeClock()), connect=connect)
        try:
            found = ssh.list("alice")
            assert len(found) == len(says["machines"])
            for machine in [*found, ssh.get("tower/gpujob-r-1-1-1")]:
                sense.instance(machine)
        except ProviderError as error:
            sense.error(error)


@given(replies(MACHINE))
@example(json.dumps({"owner": "alice"}))
@example(json.dumps([["name", 7]]))
@examples(200)
def test_a_record_on_this_computers_disk_that_was_spoilt_is_shown_or_an_error(text: str) -> None:
    """A job may have written over it, or a full disk cut it: the machine is there all the same, and may bill."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "machines" / "gpujob-r-1-1-1"
        folder.mkdir(parents=True)
        (folder / "machine.json").write_bytes(text.encode("utf-8", "replace"))
        (folder.parent / "bill.jsonl").write_text(f'{json.dumps(LINE)}\n["gpujob-r-1-1-1"]\n')
        local = LocalProvider(Settings(home=Path(home), env={}, now=FakeClock()), detect=lambda _: ())
        try:
            found = local.list("")
        except ProviderError as error:
            return sense.error(error)
        for machine in found:
            sense.instance(machine)
        for ask in (lambda: local.offers(OfferQuery(gpu_count=1)), lambda: local.get("gpujob-r-1-1-1")):
            try:
                ask()
            except ProviderError as error:
                sense.error(error)
        return None


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=20)), max_size=6), st.integers(0, 3))
@example(["²", "Tesla T4", "15360"], 0)
@example(["0", "Tesla T4", "²"], 0)
@example(["9" * 5000, "Tesla T4", "1"], 0)
@examples(300)
def test_whatever_nvidia_smi_prints_it_is_gpus(fields: list[str], lines: int) -> None:
    good = "0, NVIDIA GeForce RTX 4090, 24564"
    text = "\n".join([", ".join(fields).replace("\n", " ")] * lines + [good])
    found = gpus_of(text)
    assert "RTX4090" in {gpu.name for gpu in found}
    for gpu in found:
        assert gpu.index >= 0 and (gpu.memory_gb is None or 0 <= gpu.memory_gb < float("inf"))


def test_the_machine_of_these_tests_is_one() -> None:
    sense.instance(_shown(MACHINE))
    with pytest.raises(ProviderError):
        _shown(None)
