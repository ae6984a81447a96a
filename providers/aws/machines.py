"""EC2 instances by id and by name, with what they leave behind: making them, looking at them, ending them.

An id is REGION/i-0abc..., or REGION/NAME for what has a machine's tags and no machine. Owns the order of the calls;
what they mean is mapping.py, what RunInstances is told is launch.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from providers.aws import ground, launch, leftovers, mapping
from providers.aws.address import OwnAddress
from providers.aws.codes import AskedBefore
from providers.aws.leftovers import Leftover
from providers.aws.mapping import Place
from providers.base import Instance, InstanceStatus, LaunchRequest, Now
from providers.errors import Ambiguous, NotFound, OfferGone, ProviderError

if TYPE_CHECKING:
    from providers.aws.client import Aws

FRESH = timedelta(seconds=60)  # for so long EC2 may say of a machine just made that it does not exist
DOOR_EVERY = timedelta(seconds=60)

_NOT_VISIBLE = ("InvalidGroup.NotFound", "InvalidKeyPair.NotFound", "InvalidSecurityGroupID.NotFound")

Json = Mapping[str, Any]


class Machines:
    """Safe between threads."""

    def __init__(
        self,
        aws: Aws,
        now: Now,
        address: OwnAddress,
        *,
        simulated: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._aws = aws
        self._now = now
        self._address = address
        self._simulated = simulated
        self._sleep = sleep
        self.images = ground.Images(aws, now)
        self._fresh: dict[str, tuple[datetime, Instance]] = {}
        self._names: dict[str, str] = {}  # of ids that were seen
        self._let_in: dict[str, tuple[datetime, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def create(
        self, place: Place, request: LaunchRequest, *, rate: Callable[[], Decimal], disk_rate: Decimal
    ) -> Instance:
        """The machine of this name: the one that there is, or a new one. See Provider.create for what it raises."""
        host_key = launch.public_host_key(request.host_key)
        with ThreadPoolExecutor(max_workers=5) as pool:
            here = pool.submit(self._rows, place.region, request.name)
            image = pool.submit(self.images.newest, place.region)
            network = pool.submit(ground.subnet, self._aws, place)
            networks = pool.submit(self._address.networks)
            price = pool.submit(rate)
            if rows := here.result():
                return self._as_it_is(rows, place.region, request.name)
            usd_per_hour = price.result()
            if request.max_usd_per_hour is not None and usd_per_hour > request.max_usd_per_hour:
                text = f"{place.machine_type} in {place.zone} costs ${usd_per_hour} per hour now"
                raise OfferGone(f"{text}, more than the ${request.max_usd_per_hour} allowed", provider=mapping.PROVIDER)
            subnet, vpc = network.result()
            found = image.result(), subnet, vpc, networks.result()
        tags = mapping.tags_for(request, host_key=host_key)
        billed = {
            mapping.RATE: str(usd_per_hour),
            mapping.DISK_GB: str(launch.disk_gib(request, found[0])),
            mapping.DISK_RATE: str(disk_rate),
            mapping.IMAGE: found[0].ami,
        }
        with self._tidied(place.region, request.name):
            standing = self._stand(place, request, tags, *found)
            row = self._launch(place, launch.arguments(place, request, standing, {**tags, **billed}, self._now()))
        return self._made(row, place.region, request.name)

    def get(self, region: str, rest: str) -> Instance:
        """By instance id or by name. Raises NotFound when neither a machine nor anything of its name is left."""
        row, name = self._look(region, rest)
        if row is not None and mapping.state_of(row) != mapping.GONE:
            self._keep_door_open(row, region)
            return self._instance(row, region)
        if row is None and (fresh := self._still_fresh(f"{region}/{rest}")) is not None:
            return fresh
        left = leftovers.of_name(self._aws, region, name) if name else []
        if not left:
            raise NotFound(f"EC2 has no {rest} in {region}", provider=mapping.PROVIDER)
        return self._remains(row, region, name, left)

    def find(self, region: str, name: str) -> Instance | None:
        """The machine of that name; None when there is none, or none any more and nothing of it."""
        rows = self._rows(region, name)
        if not rows:
            return None
        try:
            return self.get(region, str(rows[0]["InstanceId"]))
        except NotFound:
            return None

    def owned_by(self, owner: str, region: str) -> list[Instance]:
        """Machines, and what machines have left behind, by name."""
        filters = leftovers.owner_filter(owner)
        found = self._aws.pages("ec2", region, "describe_instances", "Reservations", Filters=filters)
        rows = mapping.instances(found)
        left = leftovers.of_owner(self._aws, region, owner)
        there = [row for row in rows if mapping.state_of(row) != mapping.GONE]
        machines = [self._instance(row, region) for row in there]
        for name in {mapping.tags_of(row).get(mapping.NAME, "") for row in there}:
            left.pop(name, None)
        ended = {mapping.tags_of(row).get(mapping.NAME, ""): row for row in rows}
        return machines + [self._remains(ended.get(name), region, name, some) for name, some in left.items()]

    def terminate(self, region: str, rest: str) -> None:
        """Go one step on: the machine, then what it leaves behind, which may need several calls."""
        row, name = self._look(region, rest)
        if row is not None and mapping.state_of(row) not in mapping.ENDING:
            gone = ("InvalidInstanceID.NotFound",)
            self._aws.try_call(gone, "ec2", region, "terminate_instances", InstanceIds=[row["InstanceId"]])
            return
        if name and (row is None or mapping.state_of(row) == mapping.GONE):
            leftovers.remove(self._aws, region, leftovers.of_name(self._aws, region, name))

    def row(self, region: str, rest: str) -> Json | None:
        """What EC2 says of a machine, also for about an hour after its end."""
        return self._look(region, rest)[0]

    def _as_it_is(self, rows: Sequence[Json], region: str, name: str) -> Instance:
        """What a create of a known name answers: names are used once."""
        if mapping.state_of(rows[0]) in mapping.ENDING:
            raise OfferGone(_used_up(name, str(rows[0]["InstanceId"])), provider=mapping.PROVIDER)
        return self._made(rows[0], region, name)

    def _stand(
        self,
        place: Place,
        request: LaunchRequest,
        tags: Mapping[str, str],
        image: launch.Image,
        subnet: str,
        vpc: str,
        networks: Sequence[str],
    ) -> launch.Ground:
        """Make what the machine stands on."""
        region = place.region
        tags = {**tags, mapping.ASKED: str(int(self._now().timestamp()))}
        with ThreadPoolExecutor(max_workers=1) as pool:
            key = pool.submit(ground.key_pair, self._aws, region, request, tags)
            group = ground.security_group(self._aws, region, request.name, vpc, tags)
            ground.let_in(self._aws, region, group, networks, self._sleep)
            key.result()
        with self._lock:
            self._let_in[group] = (self._now(), frozenset(networks))
        return launch.Ground(image=image, subnet=subnet, security_group=group)

    def _launch(self, place: Place, told: Mapping[str, Any]) -> Json:
        """The machine as EC2 has accepted it. An old token may bring a dead machine back instead of a new one."""
        waited, pause = 0.0, 0.5
        while (answer := self._aws.launch(place.region, accept=_NOT_VISIBLE, **told)) is None:
            if waited >= ground.VISIBLE_SECONDS:
                text = "EC2 does not see the security group or the key pair that it has just made"
                raise OfferGone(text, provider=mapping.PROVIDER)
            self._sleep(pause)
            waited, pause = waited + pause, pause * 2
        if not answer["Instances"]:
            raise Ambiguous("EC2 accepted a launch and shows no machine", provider=mapping.PROVIDER)
        row: Json = answer["Instances"][0]
        if mapping.state_of(row) in mapping.ENDING:
            raise OfferGone(_used_up("this name", str(row["InstanceId"])), provider=mapping.PROVIDER)
        return {"Tags": told["TagSpecifications"][0]["Tags"], **row}

    @contextmanager
    def _tidied(self, region: str, name: str) -> Iterator[None]:
        """After a clear no nothing stays behind. When it is not clear what happened, all stays: it has its tags."""
        try:
            yield
        except ProviderError as error:
            if isinstance(error, Ambiguous) and not isinstance(error, AskedBefore):
                raise
            with suppress(ProviderError):
                leftovers.remove(self._aws, region, leftovers.made_before_launch(self._aws, region, name))
            if isinstance(error, NotFound):
                raise OfferGone(str(error), provider=mapping.PROVIDER) from error
            raise

    def _made(self, row: Json, region: str, name: str) -> Instance:
        made = self._instance(row, region)
        with self._lock:
            self._fresh[made.id] = (self._now(), made)
            self._names[made.id] = name
        return made

    def _look(self, region: str, rest: str) -> tuple[Json | None, str]:
        """(the machine's row, its name); no row when EC2 does not know it, no name when nobody does."""
        if not rest.startswith("i-"):
            rows = self._rows(region, rest)
            return (rows[0] if rows else None), rest
        try:
            answer = self._aws.call("ec2", region, "describe_instances", InstanceIds=[rest])
        except NotFound:
            return None, self._names.get(f"{region}/{rest}", "")
        rows = mapping.instances(answer["Reservations"])
        if not rows:
            return None, self._names.get(f"{region}/{rest}", "")
        name = mapping.tags_of(rows[0]).get(mapping.NAME, "")
        with self._lock:
            self._names[f"{region}/{rest}"] = name
        return rows[0], name

    def _rows(self, region: str, name: str) -> list[Json]:
        """The instances of that name, those that live first."""
        filters = [{"Name": f"tag:{mapping.NAME}", "Values": [name]}]
        rows = mapping.instances(self._aws.pages("ec2", region, "describe_instances", "Reservations", Filters=filters))
        return sorted(rows, key=lambda row: mapping.state_of(row) in mapping.ENDING)

    def _still_fresh(self, instance_id: str) -> Instance | None:
        """A machine that was made a moment ago, while EC2 does not know it yet."""
        with self._lock:
            made_at, made = self._fresh.get(instance_id, (None, None))
        if made is None or made_at is None or self._now() - made_at > FRESH:
            return None
        return replace(made, status=InstanceStatus.PENDING, detail="EC2 does not show it yet")

    def _instance(self, row: Json, region: str) -> Instance:
        return mapping.instance(row, region=region, simulated=self._simulated)

    def _remains(self, row: Json | None, region: str, name: str, left: Sequence[Leftover]) -> Instance:
        words = [str(leftover) for leftover in left]
        if row is not None:
            return mapping.instance(row, region=region, simulated=self._simulated, left=words)
        return mapping.half_made(name, left[0].tags, region=region, left=words, now=self._now())

    def _keep_door_open(self, row: Json, region: str) -> None:
        """Let in this computer from where it is now: a laptop moves, and the old address is let in only."""
        groups = mapping.groups_of(row)
        if mapping.state_of(row) != "running" or len(groups) != 1:
            return
        with self._lock:
            asked_at, known = self._let_in.get(groups[0], (None, frozenset[str]()))
            if asked_at is not None and asked_at > self._now() - DOOR_EVERY:
                return
            self._let_in[groups[0]] = (self._now(), known)
        with suppress(ProviderError):
            networks = self._address.networks()
            ground.let_in(self._aws, region, groups[0], [one for one in networks if one not in known], self._sleep)
            with self._lock:
                self._let_in[groups[0]] = (self._now(), known | frozenset(networks))


def _used_up(name: str, instance_id: str) -> str:
    return f"{name} was {instance_id}, which has ended: a name is used once, and a new machine needs a new one"
