"""RunPod's pods, bills and requests in this house's words. Pure.

What we need to know of a pod later is in the pod's own variables, GPUJOB_*: RunPod has no tags.
"""

from __future__ import annotations

import base64
import gzip
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from providers import marks, pods, sent
from providers.base import Charge, Instance, InstanceStatus, LaunchRequest, Meter, Offer, SshAccess
from providers.errors import Rejected, Unreachable
from providers.runpod.offers import ANYWHERE, COMMUNITY, DISK_USD_PER_GB_MONTH, SECURE, Choice, money

MOST_VARIABLES = 50  # of a pod, https://docs.runpod.io/pods/references/environment-variables
HOURS_PER_MONTH = Decimal(730)  # RunPod says "per month" only; 720 fits what it bills as well

# How long after its last bucket a bill is taken as final: RunPod does not say how fresh it is.
BILL_SETTLED = timedelta(hours=2)

# A job without an image gets one with Python, PyTorch and an SSH server, of RunPod's own, which its hosts often have.
DEFAULT_IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
DEFAULT_CPU_IMAGE = "python:3.12-slim-bookworm"

# A community host need not have a public address, and v2 cannot ask for one (v1 had supportPublicIp). A container that
# has been up for so long without one gets none; the usual wait for a boot is spared.
NO_ADDRESS_SECONDS = 90

DIRECTORY = ".gpujob/machine"
REGISTRY = "registry/"  # the id of a registry login that is left without its pod

_HOST_KEY = "GPUJOB_HOST_KEY_PUBLIC"
_REGISTRY_MARK = ".gpujob"
_OUR_NAME = re.compile(r"gpujob-(?P<run>.+)-(?P<attempt>\d+)-\d+")
_GO_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?\s*(?:Z|[+-]00:?00)?(?: UTC)?")
_ZERO = Decimal(0)

# The pod's own key may end the pod. v2 first; GraphQL, to be retired in 2027, in case that key has no right there.
# https://docs.runpod.io/pods/templates/environment-variables
END_SCRIPT = pods.end_script(
    """
base=${RUNPOD_API_BASE_URL:-https://api.runpod.io}
ask DELETE "$base/v2/pods/$RUNPOD_POD_ID" "$RUNPOD_API_KEY" ||
    ask POST "$base/graphql" "$RUNPOD_API_KEY" \\
        '{"query":"mutation { podTerminate(input: {podId: \\"'"$RUNPOD_POD_ID"'\\"}) }"}'
""",
    ("RUNPOD_POD_ID", "RUNPOD_API_KEY", "RUNPOD_API_BASE_URL"),
)

_STATUS = {
    "PROVISIONING": InstanceStatus.PENDING,
    "STARTING": InstanceStatus.BOOTING,
    "RUNNING": InstanceStatus.RUNNING,
    # We stop no pod. Somebody did, or RunPod (credit, image, host): v2 gives no reason, and nothing is preempted any
    # more. The container's disk is gone, a start would be on luck: to us it is a machine that is lost.
    "EXITED": InstanceStatus.STOPPED,
    "ERROR": InstanceStatus.FAILED,
}

Json = dict[str, Any]


def start_command(deadline: datetime, now: datetime) -> str:
    """The pod's `args`.

    There is no `terminateAfter` in v2 (GraphQL's create has one): the pod ends itself, and so does the orchestrator.
    """
    return in_one_line(pods.start_script(END_SCRIPT, deadline=deadline, now=now))


def in_one_line(script: str) -> str:
    """One line that a shell-like splitter takes apart, whatever is in the script.

    It takes the place of the image's CMD: an ENTRYPOINT that does not run its arguments keeps a pod from coming up.
    """
    packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    return f"sh -c 'eval \"$(echo {packed} | base64 -d | gzip -dc)\"'"


def create_body(offer: Offer, request: LaunchRequest, *, registry: str | None, now: datetime) -> Json:
    """What POST /v2/pods gets: nothing that it does not know, or it answers 422. No volume: that bills when stopped."""
    choice = Choice.of(offer.offer_id)
    body: Json = {
        "name": request.name,
        "image": request.image or (DEFAULT_IMAGE if offer.gpu_count else DEFAULT_CPU_IMAGE),
        "cloud": COMMUNITY if choice.kind == "community" else SECURE,
        "disk": disk_gb(request),
        "env": _variables(offer, request),
        "ports": ["22/tcp"],
        "args": start_command(request.deadline, now),
        "startSsh": False,  # it would let the account's keys in; ours are in the environment
    }
    if choice.kind == "cpu":
        body["cpu"] = {"id": choice.id, "vcpuCount": choice.count}
    else:
        body["gpu"] = {"id": choice.id, "count": choice.count}
    if choice.region != ANYWHERE:
        # A lower-case id has been seen to be taken, and to lead nowhere.
        body["dataCenterIds"] = [choice.region.upper()]
    if registry is not None:
        body["registry"] = registry
    return body


def secrets(request: LaunchRequest) -> tuple[str, ...]:
    """What an answer may repeat and a message must not."""
    return (request.host_key, *request.env.values())


def disk_gb(request: LaunchRequest) -> int:
    return max(1, math.ceil(request.disk_gb))


def owner_of(pod: Mapping[str, Any]) -> str:
    """Whose pod it is; "" when it is none of ours.

    Raises Unreachable for one of our names whose variables cannot be read: it must not be left out of a list.
    """
    if not isinstance(pod.get("env"), dict) and _OUR_NAME.fullmatch(_name(pod)):
        raise _senseless(f"the variables of {_name(pod)}")
    return _env(pod).get(marks.OWNER, "")


def is_over(pod: Mapping[str, Any]) -> bool:
    """RunPod's word for a pod that has been deleted; whether one can still be read then is not documented."""
    return pod.get("status") == "TERMINATED"


def lacks_address(pod: Mapping[str, Any]) -> bool:
    """Whether this is a community pod that will never be reachable."""
    runtime = pod.get("runtime")
    if pod.get("cloud") != COMMUNITY or pod.get("status") != "RUNNING" or _direct(pod) or not isinstance(runtime, dict):
        return False
    return sent.whole(runtime.get("uptime")) >= NO_ADDRESS_SECONDS


def instance(pod: Mapping[str, Any], *, now: datetime, progress: str = "") -> Instance:
    """A pod as it is. `progress` is what `stage` has come to.

    What makes no sense is left out of it; without an id it is Unreachable, never nothing.
    """
    env, word, name = _env(pod), _word(pod), _name(pod)
    if not (pod_id := sent.words(pod.get("id"))):
        raise _senseless(f"a pod without an id, {name or 'without a name'}")
    status = _STATUS.get(word, InstanceStatus.UNKNOWN)
    access = _access(pod, name, env) if status is InstanceStatus.RUNNING else None
    if status is InstanceStatus.RUNNING and access is None:  # "running" is what was asked for
        status = InstanceStatus.FAILED if lacks_address(pod) else InstanceStatus.BOOTING
    # An ended or stopped pod may show a cost of 0, or the old one; the rate that it was rented at is in its variables.
    rate = money(pod.get("cost")) or sent.price(env.get(marks.RATE))
    return Instance(
        id=pod_id,
        name=name,
        provider="runpod",
        owner=env.get(marks.OWNER, ""),
        run_id=env.get(marks.RUN, ""),
        attempt=sent.whole(env.get(marks.ATTEMPT)),
        status=status,
        detail=_detail(word, status),
        progress=progress,
        access=access,
        region=sent.words(pod.get("dataCenterId")),
        created_at=time_of(pod.get("createdAt")) or now,
        deadline=sent.moment(env.get(marks.DEADLINE)),
        usd_per_hour=rate,
        meters=() if rate is None else _meters(rate, pod.get("disk")),
    )


def stage(pod: Mapping[str, Any]) -> tuple[int, str]:
    """How far a boot has come. Only RUNNING has a runtime that is worth a look: a stopped pod shows its old one."""
    word = _word(pod)
    order = ("PROVISIONING", "STARTING", "RUNNING")
    if word not in order:
        return 0, word
    if word != "RUNNING":
        return order.index(word), word
    if _direct(pod):
        return 4, "RUNNING, its SSH port is open"
    return (3, "RUNNING, the container is up") if pod.get("runtime") else (2, "RUNNING, no container yet")


def registry_name(request: LaunchRequest) -> str:
    """The name of a registry login says whose it is: RunPod keeps nothing else of it that could."""
    return f"{request.name}.{request.owner}{_REGISTRY_MARK}"


def leftover(registry: Mapping[str, Any], *, now: datetime) -> Instance | None:
    """A registry login without its pod, as something to be ended; None when it is none of ours."""
    written, registry_id = sent.words(registry.get("name")), sent.words(registry.get("id"))
    name, _, owner = written.removesuffix(_REGISTRY_MARK).partition(".")
    if not written.endswith(_REGISTRY_MARK) or not owner or not registry_id:
        return None
    ours = _OUR_NAME.fullmatch(name)
    return Instance(
        id=f"{REGISTRY}{registry_id}",
        name=name,
        provider="runpod",
        owner=owner,
        run_id=ours["run"] if ours else "",
        attempt=sent.whole(ours and ours["attempt"]),
        status=InstanceStatus.FAILED,
        detail="a registry login at RunPod that is left without its pod",
        created_at=now,
        usd_per_hour=_ZERO,
    )


def charges(
    records: Iterable[Mapping[str, Any]], machine: Instance, *, since: datetime, gone: bool, now: datetime
) -> tuple[Charge, ...]:
    """Hourly buckets of v2's billing. Filtered by pod here, too: a server's filter has let others in (v1, 2026-04)."""
    mine = [record for record in records if record.get("podId") == machine.id]
    times = [(time_of(record.get("startTime")), time_of(record.get("endTime"))) for record in mine]
    ends = [end for _, end in times if end is not None]
    final = gone and bool(ends) and now - max(ends) >= BILL_SETTLED
    found = []
    for record, (start, end) in zip(mine, times, strict=True):
        if start is None or end is None or end < since:
            continue
        compute = _usd(record, "gpuAmount") + _usd(record, "cpuAmount")
        rows = (
            ("compute", "hour", machine.usd_per_hour or _ZERO, compute),
            ("disk", "GB-month", DISK_USD_PER_GB_MONTH, _usd(record, "diskAmount")),
        )
        found += [
            Charge(
                meter=meter,
                quantity=usd / rate if rate else _ZERO,
                unit=unit,
                usd_per_unit=rate,
                usd=usd,
                start=min(max(start, machine.created_at), end),
                end=end,
                source="RunPod API v2, billing per pod and hour",
                final=final,
            )
            for meter, unit, rate, usd in rows
        ]
    return tuple(found)


def time_of(text: Any) -> datetime | None:
    """RFC 3339 as documented, or Go's form as measured: 2026-08-20 06:16:19.436 +0000 UTC. Both are UTC."""
    if not isinstance(text, str):
        return None
    if found := _GO_TIME.fullmatch(text.strip()):
        fraction = f"{found[3][:7]:0<7}" if found[3] else ""
        text = f"{found[1]}T{found[2]}{fraction}+00:00"
    return sent.iso(text)


def _variables(offer: Offer, request: LaunchRequest) -> dict[str, str]:
    env = {
        **request.env,
        **pods.environment(request.public_key, request.host_key),
        **marks.of(offer, request),
    }
    if request.host_key:
        env[_HOST_KEY] = _public_half(request.host_key)
    if len(env) > MOST_VARIABLES:
        text = f"RunPod gives a pod at most {MOST_VARIABLES} variables; this one would have {len(env)}"
        raise Rejected(text, provider="runpod")
    return env


def _public_half(host_key: str) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    public = load_ssh_private_key(host_key.encode(), None).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _access(pod: Mapping[str, Any], name: str, env: Mapping[str, str]) -> SshAccess | None:
    """The direct way; RunPod's SSH proxy carries no files. The port is another one after every start of the pod."""
    direct = _direct(pod)
    if direct is None:
        return None
    return SshAccess(
        host=sent.address(direct["host"]),
        port=sent.port(direct["port"]),
        user=sent.address(direct.get("username")) or "root",
        directory=DIRECTORY,
        host_keys=(env[_HOST_KEY],) if env.get(_HOST_KEY) else (),
        env={"GPUJOB_MACHINE": name},
    )


def _direct(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    ssh = pod.get("ssh")
    direct = ssh.get("direct") if isinstance(ssh, dict) else None
    if not isinstance(direct, dict) or not sent.address(direct.get("host")) or not sent.port(direct.get("port")):
        return None
    return direct


def _detail(word: str, status: InstanceStatus) -> str:
    if word == "EXITED":
        return "EXITED: RunPod does not say why (stopped, no credit, image, host)"
    if word == "RUNNING" and status is InstanceStatus.FAILED:
        return "RUNNING, and its community host has no public address for SSH"
    if word == "RUNNING" and status is InstanceStatus.BOOTING:
        return "RUNNING, without an address for SSH yet"
    return word


def _meters(rate: Decimal, disk: Any) -> tuple[Meter, ...]:
    """From the allocation on, not from the boot. `cost` is without the disk, which is billed beside it."""
    compute = Meter(name="compute", unit="hour", usd_per_unit=rate, source="RunPod API v2, the pod's cost")
    size = sent.whole(disk)
    if not size:
        return (compute,)
    return (
        compute,
        Meter(
            name="disk",
            unit="GB-month",
            usd_per_unit=DISK_USD_PER_GB_MONTH,
            units_per_hour=Decimal(size) / HOURS_PER_MONTH,
            source="https://docs.runpod.io/pods/pricing",
        ),
    )


def _env(pod: Mapping[str, Any]) -> Mapping[str, str]:
    env = pod.get("env")
    return {str(key): str(value) for key, value in env.items()} if isinstance(env, dict) else {}


def _word(pod: Mapping[str, Any]) -> str:
    return sent.words(pod.get("status")) or "nonsense"


def _name(pod: Mapping[str, Any]) -> str:
    return sent.words(pod.get("name"))


def _usd(record: Mapping[str, Any], field: str) -> Decimal:
    """0 where the record does not say it. A bill that makes no sense is no bill, and not one of 0."""
    if record.get(field) is None:
        return _ZERO
    if (found := sent.amount(record[field])) is None:
        raise _senseless(f"a bill's {field}")
    return found


def _senseless(what: str) -> Unreachable:
    return Unreachable(f"RunPod's answer makes no sense: {what}", provider="runpod")
