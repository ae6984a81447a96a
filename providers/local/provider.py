"""LocalProvider: this computer as a cloud with one offer. Its machines are directories below GPUJOB_HOME.

Owns what this computer has and what it costs. How machines are made and ended is providers/host.py, called in-process.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from providers import gpus, host, inventory, owned, sent
from providers.base import (
    GB,
    Access,
    Charge,
    Check,
    FixedRates,
    Instance,
    LaunchRequest,
    LocalAccess,
    Offer,
    OfferQuery,
    Offers,
    Settings,
)
from providers.errors import BadHost, NotFound, ProviderError, Rejected

REGION = "local"
SOURCE = "this computer"
BILL_SOURCE = "this computer's own clock"

_QUERY = ["--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
_NVIDIA_SMI_SECONDS = 15
_MIB_IN_BYTES = 2**20
_INDEX = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True)
class LocalGpu:
    """A GPU as nvidia-smi lists it; `name` is canonical, or as it came when unknown."""

    index: int
    name: str
    memory_gb: float | None


Detect = Callable[[Mapping[str, str]], Sequence[LocalGpu]]


class LocalProvider(FixedRates):
    """Implements Provider."""

    name = "local"
    traits = owned.TRAITS

    def __init__(self, settings: Settings, *, detect: Detect | None = None) -> None:
        self._settings = settings
        self._detect = detect or detect_gpus
        self._root = settings.home / "machines"
        self._hostname = socket.gethostname()

    def unusable(self) -> str | None:
        return None

    def account(self) -> str:
        return ""  # a computer answers for itself, whoever asks

    def check(self) -> Check:
        """A price that cannot be read, or a directory that cannot be written, is all that can be wrong here."""
        try:
            price = price_per_hour(self._settings.home)
            self.list("")
        except ProviderError as error:
            return Check(problems=(str(error),))
        return Check(notes=(f"{_cpus()} CPUs, {_gpus_in_words(self._detect(self._settings.env))}, ${price} per hour",))

    def offers(self, query: OfferQuery) -> Offers:
        """This computer, once for each kind of GPU that it has, with as many as are wanted and free."""
        price = price_per_hour(self._settings.home)
        if query.gpu_count == 0:
            return Offers([self._offer(price, None, 0)]).fitting(query)
        free = self._free_gpus()
        kinds = dict.fromkeys(gpu.name for gpu in free)
        mine = [[gpu for gpu in free if gpu.name == kind] for kind in kinds]
        return Offers(self._offer(price, some[0], min(len(some), query.gpu_count)) for some in mine).fitting(query)

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        found = self._detect(self._settings.env)
        of_its_kind = [gpu.index for gpu in found if gpu.name == offer.gpu]
        question = owned.create_request(offer, request, gpu_ids=of_its_kind, gpu_total=len(found))
        with self._answers():
            made = host.create(self._root, question, self._clock)
        return self._instance(made["machine"])

    def get(self, instance_id: str) -> Instance:
        with self._answers():
            answer = host.get(self._root, {"name": instance_id}, self._clock)
        if answer.get("missing"):
            raise owned.missing(instance_id, provider=self.name, where=SOURCE)
        return self._instance(answer["machine"])

    def find(self, name: str, offer: Offer) -> Instance | None:  # noqa: ARG002  (there is one computer)
        try:
            return self.get(name)
        except NotFound:
            return None

    def list(self, owner: str) -> Sequence[Instance]:
        with self._answers():
            answer = host.list_machines(self._root, {"owner": owner})
        return [self._instance(machine) for machine in answer["machines"]]

    def terminate(self, instance_id: str) -> None:
        """Does all that can be done within `host.END_SECONDS`; what is left, the next call goes on with."""
        with self._answers():
            host.terminate(self._root, {"name": instance_id}, self._clock)

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        with self._answers():
            answer = host.bill(self._root, {"name": instance.name}, self._clock)
        return owned.charges(answer, since=since, provider=self.name, source=BILL_SOURCE)

    def _offer(self, price: Decimal, gpu: LocalGpu | None, count: int) -> Offer:
        return Offer(
            provider=self.name,
            offer_id=f"{self._hostname}:{gpu.name}" if gpu else self._hostname,
            region=REGION,
            gpu=gpu.name if gpu else None,
            gpu_count=count,
            gpu_memory_gb=gpu.memory_gb if gpu else None,
            vcpus=float(_cpus()),
            memory_gb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB,
            disk_gb=_free_disk(self._root) / GB,
            spot=False,
            usd_per_hour=price,
            reliability=owned.RELIABILITY,
            machine_type=self._hostname,
            host_id=self._hostname,
            fetched_at=self._settings.now(),
            source=SOURCE,
        )

    def _free_gpus(self) -> Sequence[LocalGpu]:
        with self._answers():
            live = host.list_machines(self._root, {})["machines"]
        taken = owned.gpus_of(live)
        return [gpu for gpu in self._detect(self._settings.env) if gpu.index not in taken]

    def _instance(self, machine: object) -> Instance:
        made = owned.instance(
            machine, provider=self.name, instance_id="", region=REGION, host_id=self._hostname, access=_access
        )
        return replace(made, id=made.name)

    def _clock(self) -> float:
        return self._settings.now().timestamp()

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except host.Refused as error:
            raise owned.refusal({"kind": error.kind, "message": error}, provider=self.name, where=SOURCE) from error
        except OSError as error:
            raise BadHost(f"{SOURCE}: {error}", provider=self.name) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            text = f"{SOURCE}: a record below {self._root} makes no sense: {error!r}"
            raise BadHost(text, provider=self.name) from error


def price_per_hour(home: Path) -> Decimal:
    """`[local] price_per_hour` of config.toml, 0 when it is not set. Raises Rejected with everything that is wrong."""
    path = home / "config.toml"
    content = inventory.read_toml(path, provider="local").get("local", {})
    problems: list[str] = []
    table = inventory.Table(content, where=f"{path}: local", problems=problems)
    price = table.money("price_per_hour")
    table.refuse_others()
    if problems:
        raise Rejected("\n".join(problems), provider="local")
    return price


def detect_gpus(env: Mapping[str, str]) -> list[LocalGpu]:
    """What nvidia-smi lists; nothing where there is none or it fails, as a job would find nothing either."""
    program = shutil.which("nvidia-smi", path=env.get("PATH"))
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, *_QUERY],
            env={name: env[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in env},  # no keys
            capture_output=True,
            timeout=_NVIDIA_SMI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return gpus_of(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else []


def gpus_of(listing: str) -> list[LocalGpu]:
    """nvidia-smi's lines `index, name, memory in MiB`; the memory may be "[N/A]"."""
    rows = [[field.strip() for field in line.split(",")] for line in listing.splitlines()]
    return [_gpu(*row) for row in rows if len(row) == 3 and _INDEX.fullmatch(row[0])]


def _gpu(index: str, name: str, memory: str) -> LocalGpu:
    canonical = gpus.canonical(name)
    size = gpus.specification(canonical).memory_gb if canonical else None
    if mebibytes := sent.whole(memory):
        size = mebibytes * _MIB_IN_BYTES / GB
    return LocalGpu(int(index), canonical or sent.words(name), size)


def _gpus_in_words(found: Sequence[LocalGpu]) -> str:
    counts = Counter(gpu.name for gpu in found)
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or "no GPU"


def _access(directory: str, env: Mapping[str, str]) -> Access:
    return LocalAccess(directory=directory, env=env)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_disk(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
