"""AwsProvider: machines of AWS EC2. Owns which part answers which question; each part is a module of its own.

boto3 is imported by client.py when AWS is first asked, and not before. An instance id is REGION/i-0abc..., an offer id
ZONE/TYPE/MARKET.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from providers.accounts import Whose
from providers.aws import bill, environment, mapping, public_prices, spot
from providers.aws.address import OwnAddress
from providers.aws.bill import Bill
from providers.aws.cache import Cache
from providers.aws.catalog import Catalog
from providers.aws.identity import Identity
from providers.aws.machines import Machines
from providers.aws.mapping import Place
from providers.aws.market import Market, heard, of_regions
from providers.aws.prices import GP3_USD_PER_GB_MONTH, Download, Prices
from providers.aws.quotas import UsedUp
from providers.base import Charge, Check, Instance, LaunchRequest, Offer, OfferQuery, Offers, Rate, Settings, Traits
from providers.errors import AuthFailed, NotFound, ProviderError, QuotaExceeded

if TYPE_CHECKING:
    from providers.aws.client import Aws

# Asks for a session token first (IMDSv2); the answer is 404 until EC2 wants the machine back, then two minutes remain.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html (2026-11-21)
NOTICE = """\
server=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}; server=${server%/}
if command -v curl >/dev/null 2>&1; then
    token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$server/latest/api/token") || exit 0
    curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$server/latest/meta-data/spot/instance-action" || exit 0
else
    python3 - "$server" <<'END' 2>/dev/null || exit 0
import sys, urllib.request as r
ask = r.Request(sys.argv[1] + "/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
token = r.urlopen(ask, timeout=2).read().decode()
url = sys.argv[1] + "/latest/meta-data/spot/instance-action"
print(r.urlopen(r.Request(url, headers={"X-aws-ec2-metadata-token": token}), timeout=2).read().decode())
END
fi
"""
_LONG_AGO = timedelta(days=360)  # Cost Explorer looks back a year

Sleep = Callable[[float], None]


@dataclass(frozen=True)
class _Parts:
    aws: Aws
    catalog: Catalog
    prices: Prices
    market: Market
    machines: Machines
    bill: Bill
    identity: Identity


class AwsProvider:
    """Implements Provider."""

    name = mapping.PROVIDER

    def __init__(
        self,
        settings: Settings,
        *,
        aws: Aws | None = None,
        address: OwnAddress | None = None,
        download: Download | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.traits = Traits(
            is_container=False,
            has_spot=True,
            watch_seconds=2.0,
            boot_seconds=600.0,
            usual_boot=90.0,
            terminate_seconds=5.0,
            bill_seconds=25 * 3600.0,
            simulated=environment.is_simulated(settings.env),
            self_destruct=("sudo", "shutdown", "-h", "now"),
            preemption_notice=NOTICE,
            console="https://console.aws.amazon.com/ec2/home#Instances",
        )
        self._settings = settings
        self._given = aws
        self._made: _Parts | None = None
        self._lock = threading.Lock()
        self._address = address or OwnAddress(settings.env, settings.now)
        self._download = download or (lambda region: public_prices.download(region, settings.env))
        self._sleep = sleep
        self._whose = Whose(settings.now)
        self._used_up = UsedUp(settings.now)
        self._cache = Cache(settings.home / "cache" / "aws" / environment.cache_folder(settings.env), settings.now)

    def unusable(self) -> str | None:
        """Credentials in the environment are not looked at twice; for the others botocore's own chain is asked."""
        env = self._settings.env
        if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
            return None
        files = (
            env.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            env.get("AWS_CONFIG_FILE", "~/.aws/config"),
        )
        try:
            if self._parts.aws.has_credentials():
                return None
        except ProviderError as error:
            return str(error)
        looked = " and ".join(str(Path(path).expanduser()) for path in files)
        return f"no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for {looked}"

    def account(self) -> str:
        try:
            login = self._parts.aws.login()
        except AuthFailed:
            return ""
        return self._whose.account(login, lambda: self._parts.identity.account(login))

    def check(self) -> Check:
        from providers.aws import checks

        if (why := self.unusable()) is not None:
            return Check(problems=(why,))
        try:
            return checks.check(self._parts.aws, self._parts.machines.images, self._parts.aws.home_region)
        except ProviderError as error:
            return Check(problems=(str(error),))

    def offers(self, query: OfferQuery) -> Offers:
        if self.unusable() is not None:
            region = environment.region_named(self._settings.env) or environment.FIRST_REGION
            return self._parts.market.without_account(query, region)
        found = self._parts.market.offers(query)
        return Offers(offer for offer in found if not self._used_up.has(mapping.place_of(offer)))

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        place = mapping.place_of(offer)
        disk_rate = offer.disk_usd_per_gb_month or GP3_USD_PER_GB_MONTH
        rate = partial(self._rate, place, offer)
        try:
            return self._parts.machines.create(place, request, rate=rate, disk_rate=disk_rate)
        except QuotaExceeded:
            self._used_up.note(place)
            raise

    def get(self, instance_id: str) -> Instance:
        region, rest = self._split(instance_id)
        return self._parts.machines.get(region, rest)

    def find(self, name: str, offer: Offer) -> Instance | None:
        return self._parts.machines.find(offer.region, name)

    def list(self, owner: str) -> Sequence[Instance]:
        """Every region that the account has enabled; one that does not answer is an error."""
        answers = of_regions(self._parts.catalog.regions(), lambda region: self._parts.machines.owned_by(owner, region))
        return [machine for machines in heard(answers, may_miss=False) for machine in machines]

    def terminate(self, instance_id: str) -> None:
        """One step on; the next call, once the machine is terminated, removes what it leaves behind."""
        try:
            region, rest = self._split(instance_id)
        except NotFound:
            return
        self._parts.machines.terminate(region, rest)

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        """Cost Explorer's figures; and that nothing is owed for a spot machine that EC2 took back in its first hour."""
        now = self._settings.now()
        found = self._parts.bill.charges(instance.name, max(since, now - _LONG_AGO))
        free = self._free_hour(instance, now)
        if free is None or free.end < since:
            return found
        return (free, *(charge for charge in found if charge.meter != free.meter))

    def rates(self, offer: Offer, since: datetime) -> Mapping[str, Sequence[Rate]]:
        """Of a spot machine what the price history says for each of its hours. One question, which costs nothing."""
        place = mapping.place_of(offer)
        if not place.spot:
            return {}
        history = self._parts.prices.spot_since(place.region, place.machine_type, place.zone, since)
        return {"compute": spot.rates(history, since, self._settings.now())}

    @property
    def _parts(self) -> _Parts:
        """All that speaks to AWS, made when it is first needed, once."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> _Parts:
        from providers.aws.client import Aws

        now = self._settings.now
        aws = self._given or Aws(self._settings.env)
        catalog, prices = Catalog(aws, self._cache), Prices(aws, self._cache, now, self._download)
        machines = Machines(aws, now, self._address, simulated=self.traits.simulated, sleep=self._sleep)
        market = Market(catalog, prices, lambda: aws.home_region)
        return _Parts(aws, catalog, prices, market, machines, Bill(aws, now), Identity(aws, self._cache))

    def _rate(self, place: Place, offer: Offer) -> Decimal:
        """What the machine costs at this moment; what the offer said where nobody knows better."""
        if place.spot:
            try:
                now = self._parts.prices.spot_now(place.region, place.machine_type, place.zone)
            except ProviderError:
                now = None
            return offer.usd_per_hour if now is None else now
        listed = self._parts.prices.known(place.region)
        return listed.on_demand.get(place.machine_type, offer.usd_per_hour) if listed else offer.usd_per_hour

    def _free_hour(self, instance: Instance, now: datetime) -> Charge | None:
        region, rest = self._split(instance.id)
        try:
            row = self._parts.machines.row(region, rest)
        except ProviderError:
            return None
        return bill.free_hour(row, now) if row is not None else None

    def _split(self, instance_id: str) -> tuple[str, str]:
        region, slash, rest = instance_id.partition("/")
        if not slash or not rest:
            raise NotFound(f"{instance_id} is no machine of EC2's: an id is REGION/INSTANCE", provider=self.name)
        return region, rest
