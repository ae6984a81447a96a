"""The ledger as FOCUS rows (https://focus.finops.org): columns of 1.2, and those that 1.3 named anew beside them.

One row per line of the ledger, which is a meter and an interval. Owns what each column says; docs/cost.md explains the
choices. Pure but for the two functions that write a file; pyarrow is imported by the one that needs it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from orchestrator.ledger import plain
from orchestrator.records import Attempt, ChargeKind, ChargeRow, Run
from orchestrator.reports import words

Row = dict[str, Any]  # str, int, bool, Decimal, datetime or None

TIMES = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")
NUMBERS = (
    "BilledCost",
    "ConsumedQuantity",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "ListCost",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
)
WHOLE_NUMBERS = ("x_Attempt", "x_ChargeId", "x_GpuCount")
FLAGS = ("x_Simulated",)

_UNITS = {"hour": "Hours", "GB-month": "GB-Months", "GB": "GB"}
_SERVICES = {  # a service has one category: https://focus.finops.org/focus-columns/service-category/
    "compute": ("Machines", "Compute", "Virtual Machines"),
    "disk": ("Disks", "Storage", "Block Storage"),
    "stopped_disk": ("Disks", "Storage", "Block Storage"),
    "address": ("Addresses", "Networking", "Network Infrastructure"),
    "traffic_in": ("Traffic", "Networking", "Network Connectivity"),
    "traffic_out": ("Traffic", "Networking", "Network Connectivity"),
}
_OTHER = ("Other", "Other", "Other (Other)")
_CLOSE = Decimal("1E-9")  # dollars: less is how quantities are rounded
_EXACT = Context(prec=60)
_PARQUET_DIGITS, _PARQUET_PLACES = 38, 18


class NoParquet(Exception):
    """What writes Parquet is not installed."""


def rows(
    charges: Iterable[ChargeRow],
    runs: Mapping[str, Run],
    attempts: Mapping[tuple[str, int], Attempt],
    accounts: Mapping[str, str],
) -> Iterator[Row]:
    """A row for every line of the ledger that says anything. `accounts` are ids of billing accounts by provider."""
    for charge in charges:
        if charge.amount_usd or charge.quantity:
            run, attempt = runs.get(charge.run_id), attempts.get((charge.run_id, charge.attempt))
            yield _row(charge, run, attempt, accounts.get(charge.provider, charge.provider))


def write_csv(found: Iterable[Row], file: TextIO) -> int:
    """Write rows under their columns' names; null is an empty field. Returns how many rows that was."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in found:
        writer.writerow([_field(row[name]) for name in COLUMNS])
        count += 1
    return count


def write_parquet(found: Iterable[Row], path: Path) -> int:
    """The same with types: decimal128 of 18 places, timestamps in UTC. NoParquet without pyarrow."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise NoParquet("Parquet needs pyarrow: install gpujob with its extra `focus`, or write .csv") from None
    of_all = list(found)
    schema = arrow.schema([(name, _arrow_type(arrow, name)) for name in COLUMNS])
    columns = {name: [_of_parquet(row[name]) for row in of_all] for name in COLUMNS}
    parquet.write_table(arrow.table(columns, schema=schema), path)
    return len(of_all)


def _row(charge: ChargeRow, run: Run | None, attempt: Attempt | None, account: str) -> Row:
    provider = words.provider(attempt) if attempt else charge.provider
    is_usage = _is_usage(charge)
    return {
        **_period(charge),
        **_what(charge, attempt, is_usage=is_usage),
        **_costs(charge, is_usage=is_usage),
        **_where(attempt, provider, account),
        **_sku(charge, attempt, is_usage=is_usage),
        **_own(charge, run, attempt),
        "Tags": _json(dict(run.spec.get("labels") or {}) if run else {}),
    }


def _period(charge: ChargeRow) -> Row:
    """To the second, as FOCUS writes times; never without length. The billing period is the month of the start."""
    start = charge.start.astimezone(UTC).replace(microsecond=0)
    end = max(charge.end.astimezone(UTC).replace(microsecond=0), start + timedelta(seconds=1))
    month = start.replace(day=1, hour=0, minute=0, second=0)
    next_month = (month + timedelta(days=32)).replace(day=1)
    return {
        "BillingPeriodStart": month,
        "BillingPeriodEnd": next_month,
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "ChargeClass": "Correction" if _is_late(charge, next_month) else None,
    }


def _is_late(charge: ChargeRow, invoiced_from: datetime) -> bool:
    return charge.kind is ChargeKind.SETTLEMENT and charge.at >= invoiced_from


def _is_usage(charge: ChargeRow) -> bool:
    """Whether it is a quantity at a rate. What brings an estimate to the cloud's figure mostly is not."""
    with localcontext(_EXACT):
        return charge.rate_usd >= 0 and abs(charge.quantity * charge.rate_usd - charge.amount_usd) <= _CLOSE


def _what(charge: ChargeRow, attempt: Attempt | None, *, is_usage: bool) -> Row:
    service, category, subcategory = _SERVICES.get(charge.meter, _OTHER)
    hardware = words.hardware(attempt.offer) if attempt else "machine"
    said = f"{charge.meter} of {hardware} at {charge.provider}, run {charge.run_id}, attempt {charge.attempt}"
    price = f", {words.rate(charge.rate_usd, charge.unit)}" if is_usage else ": the difference to the bill"
    return {
        "ChargeCategory": "Usage" if is_usage else "Adjustment",
        "ChargeDescription": words.one_line(said + price),
        "ChargeFrequency": "Usage-Based" if is_usage else "One-Time",
        "ServiceCategory": category,
        "ServiceName": service,
        "ServiceSubcategory": subcategory,
    }


def _costs(charge: ChargeRow, *, is_usage: bool) -> Row:
    """No discounts are known, so all four costs are one; of usage, two of them as the product that FOCUS asks for."""
    with localcontext(_EXACT):
        product = charge.quantity * charge.rate_usd if is_usage else charge.amount_usd
    unit = _UNITS.get(charge.unit, charge.unit) if is_usage else None
    quantity, rate = (charge.quantity, charge.rate_usd) if is_usage else (None, None)
    return {
        "BilledCost": charge.amount_usd,
        "BillingCurrency": "USD",
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "ContractedCost": product,
        "ContractedUnitPrice": rate,
        "EffectiveCost": charge.amount_usd,
        "ListCost": product,
        "ListUnitPrice": rate,
        "PricingCurrency": "USD",
        "PricingCurrencyContractedUnitPrice": rate,
        "PricingCurrencyEffectiveCost": charge.amount_usd,
        "PricingCurrencyListUnitPrice": rate,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
    }


def _where(attempt: Attempt | None, provider: str, account: str) -> Row:
    offer = attempt.offer if attempt else {}
    resource = attempt.instance_id if attempt else None
    region = words.one_line(offer.get("region") or "") or None
    return {
        "BillingAccountId": account,
        "BillingAccountName": None,
        "CommitmentDiscountStatus": None,
        "HostProviderName": provider,
        "InvoiceId": None,
        "InvoiceIssuerName": provider,
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": region,
        "RegionName": region,
        "ResourceId": resource or None,
        "ResourceName": attempt.machine if attempt and resource else None,
        "ResourceType": "Machine" if resource else None,
        "ServiceProviderName": provider,
        "SubAccountId": None,
        "SubAccountName": None,
    }


def _sku(charge: ChargeRow, attempt: Attempt | None, *, is_usage: bool) -> Row:
    """Clouds of this kind publish no ids for what they sell: made from provider, meter and hardware."""
    if not is_usage:
        return dict.fromkeys(("PricingCategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId"))
    offer = attempt.offer if attempt else {}
    hardware = words.hardware(offer) if charge.meter == "compute" else charge.unit
    category = "Dynamic" if offer.get("spot") else "Standard"
    sku = words.one_line(f"{charge.provider}/{charge.meter}/{hardware}").replace(" ", "-")
    return {
        "PricingCategory": category,
        "SkuId": sku,
        "SkuMeter": charge.meter,
        "SkuPriceDetails": _json(_details(offer)) if charge.meter == "compute" else None,
        "SkuPriceId": f"{sku}/{offer.get('region') or '-'}/{category.lower()}/{plain(charge.rate_usd)}",
    }


def _details(offer: Mapping[str, Any]) -> dict[str, object]:
    found = {
        "CoreCount": offer.get("vcpus"),
        "GpuCount": offer.get("gpu_count"),
        "x_GpuModel": offer.get("gpu"),
        "x_GpuMemoryGB": offer.get("gpu_memory_gb"),
    }
    return {name: value for name, value in found.items() if value}


def _own(charge: ChargeRow, run: Run | None, attempt: Attempt | None) -> Row:
    offer = attempt.offer if attempt else {}
    return {
        "x_Attempt": charge.attempt,
        "x_AttemptOutcome": attempt.outcome.value if attempt and attempt.outcome else None,
        "x_ChargeId": charge.id,
        "x_Gpu": offer.get("gpu"),
        "x_GpuCount": int(offer.get("gpu_count") or 0),
        "x_Kind": charge.kind.value,
        "x_Meter": charge.meter,
        "x_Owner": run.owner if run else None,
        "x_Project": run.project if run else None,
        "x_RunId": charge.run_id,
        "x_RunName": run.name if run else None,
        "x_Simulated": words.is_simulated(attempt) if attempt else False,
        "x_Source": charge.source or None,
    }


_FOCUS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceId", "InvoiceIssuerName", "ListCost",
    "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName",
    "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory",
    "ServiceName", "ServiceProviderName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "SubAccountId", "SubAccountName", "Tags",
)  # fmt: skip
_OWN = (
    "x_Attempt", "x_AttemptOutcome", "x_ChargeId", "x_Gpu", "x_GpuCount", "x_Kind", "x_Meter", "x_Owner", "x_Project",
    "x_RunId", "x_RunName", "x_Simulated", "x_Source",
)  # fmt: skip
COLUMNS: Sequence[str] = tuple(chain(_FOCUS, _OWN))


def _json(pairs: Mapping[str, object]) -> str | None:
    return json.dumps(pairs, ensure_ascii=False, sort_keys=True) if pairs else None


def _field(value: object) -> object:
    if value is None or isinstance(value, str):  # most of them
        return value
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return str(value).lower() if isinstance(value, bool) else value


def _of_parquet(value: object) -> object:
    if not isinstance(value, Decimal):
        return value
    with localcontext(_EXACT):
        return value.quantize(Decimal(1).scaleb(-_PARQUET_PLACES))


def _arrow_type(arrow: Any, name: str) -> Any:
    if name in TIMES:
        return arrow.timestamp("us", tz="UTC")
    if name in NUMBERS:
        return arrow.decimal128(_PARQUET_DIGITS, _PARQUET_PLACES)
    if name in WHOLE_NUMBERS:
        return arrow.int64()
    return arrow.bool_() if name in FLAGS else arrow.string()
