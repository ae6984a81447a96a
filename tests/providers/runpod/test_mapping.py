"""Pods, requests and bills in words of the house."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from providers.base import InstanceStatus, RegistryLogin, Runs, SshAccess
from providers.errors import Rejected, Unreachable
from providers.runpod import mapping
from tests.fakes.clock import START
from tests.providers.runpod.wire import DIRECT, offer, pod
from tests.providers.wire import request

Json = dict[str, Any]


def host_key() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def script_in(args: str) -> str:
    """What the pod runs, taken apart as a shell-like splitter does."""
    shell, option, command = shlex.split(args)
    assert (shell, option) == ("sh", "-c")
    return gzip.decompress(base64.b64decode(command.split()[2])).decode()


class TestCreate:
    def test_the_body_has_what_v2_knows_and_nothing_else(self) -> None:
        body = mapping.create_body(offer(), request(), registry=None, now=START)
        args, env = body.pop("args"), body.pop("env")
        assert body == {
            "name": "gpujob-r-abc123-1-1",
            "image": "python:3.12",
            "cloud": "SECURE",
            "disk": 20,
            "ports": ["22/tcp"],
            "startSsh": False,
            "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1},
        }
        assert args.startswith("sh -c ") and all(isinstance(value, str) for value in env.values())

    def test_where_it_is_to_be(self) -> None:
        chosen = offer("secure:NVIDIA L4:2:eu-ro-1")
        body = mapping.create_body(chosen, request(), registry="reg1", now=START)
        assert (body["dataCenterIds"], body["gpu"]["count"], body["registry"]) == (["EU-RO-1"], 2, "reg1")
        assert (
            mapping.create_body(offer("community:X:1:any"), request(), registry=None, now=START)["cloud"] == "COMMUNITY"
        )

    def test_a_cpu_pod(self) -> None:
        body = mapping.create_body(offer("cpu:cpu3c:4:any", gpu_count=0), request(image=None), registry=None, now=START)
        assert body["cpu"] == {"id": "cpu3c", "vcpuCount": 4} and "gpu" not in body
        assert body["image"] == mapping.DEFAULT_CPU_IMAGE

    def test_the_pod_keeps_our_record_and_gets_its_keys(self) -> None:
        private, public = host_key()
        wanted = request(host_key=private, env={"EPOCHS": "3", "GPUJOB_OWNER": "mallory"})
        env = mapping.create_body(offer(), wanted, registry=None, now=START)["env"]
        made = mapping.instance(pod(env=env, ssh={"direct": DIRECT}), now=START)
        assert (made.owner, made.run_id, made.attempt, made.deadline) == ("alice", "r-abc123", 1, wanted.deadline)
        assert isinstance(made.access, SshAccess) and made.access.host_keys == (public,)
        assert env["EPOCHS"] == "3" and env["PUBLIC_KEY"] == env["GPUJOB_PUBLIC_KEY"] == wanted.public_key
        assert private not in mapping.start_command(wanted.deadline, START)

    def test_more_than_fifty_variables_are_refused_before_anything_is_asked(self) -> None:
        wanted = request(env={f"V{number}": "x" for number in range(50)})
        with pytest.raises(Rejected, match="at most 50 variables"):
            mapping.create_body(offer(), wanted, registry=None, now=START)

    def test_the_start_command_survives_a_shell_like_splitter(self) -> None:
        deadline = START + timedelta(hours=1)
        args = mapping.start_command(deadline, START)
        script = script_in(args)
        assert str(int(deadline.timestamp())) in script and "sshd" in script
        assert "\n" not in args and len(args) < 4096

    def test_the_pod_ends_itself_by_its_own_key(self) -> None:
        script = script_in(mapping.start_command(START, START))
        first, second = script.index("/v2/pods/$RUNPOD_POD_ID"), script.index("podTerminate")
        assert first < second, "GraphQL only when v2 refuses"
        assert "${RUNPOD_API_BASE_URL:-https://api.runpod.io}" in script


class TestPods:
    @pytest.mark.parametrize(
        ("word", "direct", "status"),
        [
            ("PROVISIONING", None, InstanceStatus.PENDING),
            ("STARTING", None, InstanceStatus.BOOTING),
            ("RUNNING", None, InstanceStatus.BOOTING),
            ("RUNNING", DIRECT, InstanceStatus.RUNNING),
            ("EXITED", DIRECT, InstanceStatus.STOPPED),
            ("ERROR", None, InstanceStatus.FAILED),
            ("MIGRATING", None, InstanceStatus.UNKNOWN),
        ],
    )
    def test_status(self, word: str, direct: Json | None, status: InstanceStatus) -> None:
        made = mapping.instance(pod(status=word, ssh={"proxy": {"host": "ssh.runpod.io"}, "direct": direct}), now=START)
        assert made.status is status and word in made.detail
        assert (made.access is not None) == (status is InstanceStatus.RUNNING), "a stopped pod's address is stale"

    def test_the_port_of_now(self) -> None:
        for port in (34446, 40001):
            made = mapping.instance(pod(ssh={"direct": {**DIRECT, "port": port}}), now=START)
            assert isinstance(made.access, SshAccess)
            assert (made.access.host, made.access.port, made.access.user) == ("203.0.113.7", port, "root")
            assert made.access.env == {"GPUJOB_MACHINE": made.name}

    @pytest.mark.parametrize("ssh", [None, {}, {"direct": {}}, {"direct": {"host": "", "port": 22}}, {"proxy": {}}])
    def test_half_an_address_is_none(self, ssh: Json | None) -> None:
        assert mapping.instance(pod(ssh=ssh), now=START).access is None

    @pytest.mark.parametrize(
        ("status", "cost", "rate"),
        [("RUNNING", 0.72, "0.72"), ("EXITED", 0.72, "0.72"), ("EXITED", 0.0, "0.69"), ("PROVISIONING", None, "0.69")],
    )
    def test_the_rate_is_never_lost(self, status: str, cost: float | None, rate: str) -> None:
        made = mapping.instance(pod(status=status, cost=cost), now=START)
        assert made.usd_per_hour == Decimal(rate)
        assert [meter.usd_per_hour for meter in made.meters if meter.name == "compute"] == [Decimal(rate)]

    def test_the_disk_is_billed_beside_the_cost(self) -> None:
        compute, disk = mapping.instance(pod(disk=73), now=START).meters
        assert (compute.unit, compute.runs, compute.granularity_seconds) == ("hour", Runs.EXISTS, 1)
        assert (disk.name, disk.unit, disk.usd_per_hour) == ("disk", "GB-month", Decimal("0.01"))

    def test_a_pod_of_somebody_else_has_no_owner(self) -> None:
        for env in ({}, None, {"PUBLIC_KEY": "x"}):
            theirs = pod(name="notebook", env=env, cost=None)
            assert mapping.owner_of(theirs) == ""
            made = mapping.instance(theirs, now=START)
            assert (made.owner, made.attempt) == ("", 0) and made.deadline is None and made.usd_per_hour is None

    def test_a_pod_of_ours_whose_variables_cannot_be_read_is_never_left_out_of_a_list(self) -> None:
        """It bills: a list without it would lie."""
        unreadable: tuple[object, ...] = (None, "", [], 7)
        for env in unreadable:
            with pytest.raises(Unreachable, match="gpujob-r-abc123-1-1"):
                mapping.owner_of(pod(env=env))

    def test_how_far_a_boot_has_come(self) -> None:
        up = {"uptime": 3, "ports": [{"private": 19123, "type": "http"}]}
        stages = [
            mapping.stage(pod(status="PROVISIONING", runtime={})),
            mapping.stage(pod(status="STARTING")),
            mapping.stage(pod()),
            mapping.stage(pod(runtime=up)),
            mapping.stage(pod(runtime=up, ssh={"direct": DIRECT})),
        ]
        assert stages == sorted(stages) and len({text for _, text in stages}) == 5
        assert mapping.stage(pod(runtime={**up, "uptime": 99})) == stages[3], "getting older is no progress"
        assert mapping.stage(pod(status="EXITED", runtime=up)) == (0, "EXITED")

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-08-20T06:16:19Z", datetime(2026, 8, 20, 6, 16, 19, tzinfo=UTC)),
            ("2026-08-20T06:16:19.436Z", datetime(2026, 8, 20, 6, 16, 19, 436000, tzinfo=UTC)),
            ("2026-08-20 06:16:19.436 +0000 UTC", datetime(2026, 8, 20, 6, 16, 19, 436000, tzinfo=UTC)),
            ("2026-08-20T06:16:19.123456789Z", datetime(2026, 8, 20, 6, 16, 19, 123456, tzinfo=UTC)),
            ("2026-04-24 00:00:00", datetime(2026, 4, 24, tzinfo=UTC)),
            ("2026-08-20T08:16:19+02:00", datetime(2026, 8, 20, 6, 16, 19, tzinfo=UTC)),
            ("2026-99-20 06:16:19", None),
            ("yesterday", None),
            (None, None),
        ],
    )
    def test_times(self, text: str | None, moment: datetime | None) -> None:
        assert mapping.time_of(text) == moment


class TestRegistries:
    def test_the_name_says_whose_it_is(self) -> None:
        wanted = request(registry=RegistryLogin(server="ghcr.io", username="u", password="p"))
        left = mapping.leftover({"id": "reg1", "name": mapping.registry_name(wanted)}, now=START)
        assert left is not None
        assert (left.id, left.name, left.owner) == ("registry/reg1", wanted.name, "alice")
        assert (left.run_id, left.attempt, left.usd_per_hour) == ("r-abc123", 1, Decimal(0))

    @pytest.mark.parametrize("name", ["dockerhub-private", "my.registry", "ghcr.io", "", ".gpujob", "x.gpujob"])
    def test_a_login_of_the_users_own_is_left_alone(self, name: str) -> None:
        assert mapping.leftover({"id": "reg1", "name": name}, now=START) is None


class TestCharges:
    def record(self, hour: int, **changes: Any) -> Json:
        start = datetime(2026, 11, 21, hour, tzinfo=UTC)
        made: Json = {
            "startTime": start.isoformat(),
            "endTime": (start + timedelta(hours=1)).isoformat(),
            "podId": "p1",
            "totalAmount": Decimal("0.6927"),
            "gpuAmount": Decimal("0.69"),
            "cpuAmount": 0,
            "diskAmount": Decimal("0.0027"),
        }
        return {**made, **changes}

    machine = mapping.instance(pod(createdAt="2026-11-21T12:20:00Z"), now=START)

    def test_each_hour_by_meter(self) -> None:
        now = datetime(2026, 11, 21, 17, tzinfo=UTC)
        since = self.machine.created_at
        rows = [self.record(12), self.record(13), self.record(13, podId="p2")]
        found = mapping.charges(rows, self.machine, since=since, gone=True, now=now)
        assert [(row.meter, row.usd, row.unit) for row in found] == [
            ("compute", Decimal("0.69"), "hour"),
            ("disk", Decimal("0.0027"), "GB-month"),
        ] * 2
        assert found[0].start == self.machine.created_at and found[0].end == datetime(2026, 11, 21, 13, tzinfo=UTC)
        assert found[0].quantity == 1 and found[1].quantity == Decimal("0.027")
        assert all(row.final and row.source for row in found)

    def test_cpu_pods_have_an_amount_of_their_own(self) -> None:
        row = self.record(12, gpuAmount=0, cpuAmount=Decimal("0.24"))
        compute, _ = mapping.charges([row], self.machine, since=START, gone=False, now=START)
        assert compute.usd == Decimal("0.24")

    @pytest.mark.parametrize(
        ("gone", "hour", "final"), [(False, 20, False), (True, 14, False), (True, 15, True), (True, 20, True)]
    )
    def test_a_bill_is_final_when_the_pod_is_gone_and_has_settled(self, gone: bool, hour: int, final: bool) -> None:
        now = datetime(2026, 11, 21, hour, tzinfo=UTC)
        found = mapping.charges([self.record(12)], self.machine, since=START, gone=gone, now=now)
        assert [row.final for row in found] == [final, final]

    def test_what_ended_before_is_left_out(self) -> None:
        since = datetime(2026, 11, 21, 14, tzinfo=UTC)
        found = mapping.charges([self.record(12), self.record(14)], self.machine, since=since, gone=True, now=since)
        assert {row.end.hour for row in found} == {15}

    def test_a_row_without_times_makes_nothing_up(self) -> None:
        assert mapping.charges([self.record(12, endTime=None)], self.machine, since=START, gone=True, now=START) == ()


def test_a_body_is_json() -> None:
    assert json.loads(json.dumps(mapping.create_body(offer(), request(), registry=None, now=START)))["disk"] == 20
