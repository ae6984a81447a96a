"""What the four states of an instance come to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from providers.base import InstanceStatus
from providers.vast.standing import standing, without_credit
from tests.fakes.clock import START
from tests.providers.vast.wire import STOPPED, instance

OCI = "Error response from daemon: failed to create task: OCI runtime create failed: nvidia-container-cli"
BAD_IMAGE = "Error response from daemon: manifest for nobody/none:1 not found: manifest unknown: manifest unknown"
DENIED = "Error response from daemon: pull access denied for nobody/none, repository does not exist"
PENDING, BOOTING, RUNNING, STOP, FAILED, PREEMPTED, UNKNOWN = (
    InstanceStatus.PENDING,
    InstanceStatus.BOOTING,
    InstanceStatus.RUNNING,
    InstanceStatus.STOPPED,
    InstanceStatus.FAILED,
    InstanceStatus.PREEMPTED,
    InstanceStatus.UNKNOWN,
)
BID: dict[str, Any] = {**STOPPED, "is_bid": True}
ENDED = {"end_date": START.timestamp() - 1}

TABLE: list[tuple[str, dict[str, Any], InstanceStatus]] = [
    ("provisioning", {"actual_status": None}, PENDING),
    ("provisioning, its contract not begun", {"actual_status": None, **STOPPED}, PENDING),
    ("loading", {"actual_status": "loading"}, BOOTING),
    ("created", {"actual_status": "created", "status_msg": None}, BOOTING),
    ("rebooting", {"actual_status": "rebooting"}, BOOTING),
    ("running", {"actual_status": "running"}, RUNNING),
    ("a daemon's error while it still tries", {"actual_status": "loading", "status_msg": OCI}, BOOTING),
    ("bad image", {"actual_status": "loading", "status_msg": BAD_IMAGE}, FAILED),
    ("image of somebody else", {"actual_status": "loading", "status_msg": DENIED}, FAILED),
    ("bad image, being provisioned", {"actual_status": None, "status_msg": BAD_IMAGE}, FAILED),
    ("the host gave up", {"actual_status": "created", "status_msg": OCI, **STOPPED}, FAILED),
    ("the host gave up on a bid", {"actual_status": "created", "status_msg": OCI, **BID}, FAILED),
    ("stopped before it began", {"actual_status": "loading", **STOPPED}, FAILED),
    ("waits for GPUs", {"actual_status": "exited", **STOPPED, "intended_status": "running"}, PENDING),
    ("stopped", {"actual_status": "exited", **STOPPED}, STOP),
    ("outbid", {"actual_status": "exited", **BID}, PREEMPTED),
    ("outbid, and may resume", {"actual_status": "exited", **BID, "intended_status": "running"}, PREEMPTED),
    ("a bid that waits for its turn", {"actual_status": "loading", **BID, "intended_status": "running"}, PENDING),
    ("outbid before it began", {"actual_status": "loading", **BID}, PREEMPTED),
    ("outbid, and not yet seen by its host", {"actual_status": "running", **BID}, PREEMPTED),
    ("its host's contract has ended", {"actual_status": "exited", **STOPPED, **ENDED}, STOP),
    ("a bid whose host's contract has ended", {"actual_status": "exited", **BID, **ENDED}, STOP),
    ("no heartbeat", {"actual_status": "unknown"}, FAILED),
    ("offline", {"actual_status": "offline"}, FAILED),
    ("exited by itself", {"actual_status": "exited"}, STOP),
    ("frozen", {"actual_status": "frozen"}, STOP),
    ("a new word", {"actual_status": "teleporting"}, UNKNOWN),
]


@pytest.mark.parametrize(("changes", "status"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_how_an_instance_stands(changes: dict[str, Any], status: InstanceStatus) -> None:
    found = standing(instance(**changes), START)
    assert found.status is status and found.detail


@pytest.mark.parametrize("said", ["exited", "stopped", "frozen", "unknown", "offline"])
def test_what_may_be_read_wrong_is_marked(said: str) -> None:
    assert standing(instance(actual_status=said), START).is_lost
    assert not standing(instance(actual_status=said, **STOPPED), START).is_lost


@pytest.mark.parametrize("changes", [STOPPED, BID])
def test_a_stop_without_credit_is_no_preemption(changes: dict[str, Any]) -> None:
    found = standing(instance(actual_status="exited", **changes), START)
    told = without_credit(found, Decimal("-0.02"))
    assert told.status is STOP and "credit" in told.detail
    for credit in (Decimal(3), None):
        assert without_credit(found, credit) == found


def test_a_failure_is_not_blamed_on_the_credit() -> None:
    found = standing(instance(actual_status="created", status_msg=OCI, **STOPPED), START)
    assert without_credit(found, Decimal(-1)) == found and "OCI" in found.detail
