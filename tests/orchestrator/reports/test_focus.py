"""FOCUS rows: the ledger's own sums, and what the specification asks of each column."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records import ChargeKind, ChargeRow
from orchestrator.reports import focus
from tests.orchestrator.reports.samples import START, attempt, charge, run

RUN = run(spec={"name": "mnist", "labels": {"team": "vision", "wer": "Zoë"}})


def rows(*charges: ChargeRow, of: Any = None, **accounts: str) -> list[focus.Row]:
    made = of or attempt()
    return [*focus.rows(charges, {RUN.id: RUN}, {(RUN.id, 1): made}, accounts)]


def estimate(**changes: Any) -> ChargeRow:
    return replace(charge(quantity=Decimal("0.5"), usd="0.1706"), **{"id": 7, **changes})


def settled(usd: str, **changes: Any) -> ChargeRow:
    return charge(usd=usd, kind=ChargeKind.SETTLEMENT, **changes)


def test_every_rate_is_a_row_with_its_own_price_and_interval() -> None:
    later = {"start": estimate().end, "end": estimate().end + timedelta(hours=1), "rate_usd": Decimal("0.5")}
    first, second = rows(estimate(), estimate(quantity=Decimal(1), amount_usd=Decimal("0.5"), **later))
    assert (first["ListUnitPrice"], second["ListUnitPrice"]) == (Decimal("0.3412"), Decimal("0.5"))
    assert first["SkuId"] == second["SkuId"] and first["SkuPriceId"] != second["SkuPriceId"]
    assert first["ChargePeriodEnd"] == second["ChargePeriodStart"]
    assert [row["ChargeCategory"] for row in (first, second)] == ["Usage", "Usage"]


def test_usage_is_a_quantity_at_a_price() -> None:
    [row] = rows(estimate())
    assert set(row) == set(focus.COLUMNS)
    assert (row["ChargeCategory"], row["ChargeClass"], row["ChargeFrequency"]) == ("Usage", None, "Usage-Based")
    assert (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == (
        Decimal("0.5"),
        "Hours",
        Decimal("0.3412"),
    )
    assert row["ListCost"] == row["ContractedCost"] == row["PricingQuantity"] * row["ListUnitPrice"]
    assert row["BilledCost"] == row["EffectiveCost"] == Decimal("0.1706")
    assert (row["ServiceCategory"], row["ServiceSubcategory"]) == ("Compute", "Virtual Machines")
    assert (row["ResourceId"], row["ResourceName"]) == ("19033771", "gpujob-r-7k2m9x-1-1")
    assert json.loads(row["Tags"]) == {"team": "vision", "wer": "Zoë"}
    assert (row["x_RunId"], row["x_Attempt"], row["x_Meter"], row["x_Simulated"], row["x_ChargeId"]) == (
        ("r-7k2m9x", 1, "compute", False, 7)
    )


def test_the_names_of_1_3_stand_beside_those_of_1_2() -> None:
    [row] = rows(estimate())
    assert row["ProviderName"] == row["ServiceProviderName"] == row["HostProviderName"] == "vast"
    assert row["PublisherName"] == row["InvoiceIssuerName"] == "vast"


def test_an_account_is_the_users_or_the_provider() -> None:
    assert rows(estimate())[0]["BillingAccountId"] == "vast"
    assert rows(estimate(), vast="42", aws="1")[0]["BillingAccountId"] == "42"


def test_the_difference_to_the_bill_is_an_adjustment_without_a_quantity() -> None:
    [row] = rows(settled("-0.01", quantity=Decimal(0)))
    assert (row["ChargeCategory"], row["ChargeClass"], row["BilledCost"]) == ("Adjustment", None, Decimal("-0.01"))
    assert row["ListCost"] == row["ContractedCost"] == row["EffectiveCost"] == Decimal("-0.01")
    empty = (
        "PricingQuantity",
        "PricingUnit",
        "ListUnitPrice",
        "ConsumedQuantity",
        "ConsumedUnit",
        "SkuId",
        "SkuPriceId",
    )
    assert {row[name] for name in (*empty, "SkuMeter", "SkuPriceDetails", "PricingCategory")} == {None}


def test_traffic_that_only_the_bill_knows_is_usage() -> None:
    [row] = rows(settled("0.02", meter="traffic_out", quantity=Decimal(2), unit="GB", rate_usd=Decimal("0.01")))
    assert (row["ChargeCategory"], row["ServiceCategory"], row["PricingUnit"]) == ("Usage", "Networking", "GB")


def test_what_settles_a_month_that_is_over_is_a_correction() -> None:
    december = datetime(2026, 12, 1, tzinfo=UTC)
    late, early = (settled("-0.01", at=december + timedelta(seconds=second)) for second in (0, -1))
    assert [row["ChargeClass"] for row in rows(late, early, estimate(at=december))] == ["Correction", None, None]


def test_a_charge_belongs_to_the_month_in_which_it_starts() -> None:
    silvester = datetime(2026, 12, 31, 23, 59, 59, 900_000, tzinfo=UTC)
    [row] = rows(estimate(start=silvester, end=silvester + timedelta(hours=1)))
    assert row["BillingPeriodStart"] == datetime(2026, 12, 1, tzinfo=UTC)
    assert row["BillingPeriodEnd"] == datetime(2027, 1, 1, tzinfo=UTC)
    assert row["ChargePeriodEnd"] == datetime(2027, 1, 1, 0, 59, 59, tzinfo=UTC)
    [brief] = rows(estimate(start=START, end=START))
    assert brief["ChargePeriodEnd"] - brief["ChargePeriodStart"] == timedelta(seconds=1)


def test_spot_is_dynamic_and_a_sku_is_the_same_however_it_is_priced() -> None:
    spot = attempt()
    spot.offer["spot"] = True
    [dynamic], [standard] = rows(estimate(), of=spot), rows(estimate())
    assert (dynamic["PricingCategory"], standard["PricingCategory"]) == ("Dynamic", "Standard")
    assert dynamic["SkuId"] == standard["SkuId"] and dynamic["SkuPriceId"] != standard["SkuPriceId"]


def test_a_simulated_provider_never_passes_for_a_real_one() -> None:
    [row] = rows(estimate(), of=attempt(offer={**attempt().offer, "gpu": "Simulated RTX 4090"}))
    assert row["x_Simulated"] is True
    assert row["ProviderName"] == row["InvoiceIssuerName"] == "vast (simulated)"


def test_what_says_nothing_is_no_row_and_what_is_unknown_is_null() -> None:
    assert rows(settled("0", quantity=Decimal(0))) == []
    [row] = focus.rows([estimate()], {}, {}, {})
    assert {row[name] for name in ("ResourceId", "ResourceName", "ResourceType", "RegionId", "Tags", "x_Project")} == {
        None
    }
    [row] = rows(estimate(), of=attempt(instance_id=None))
    assert row["ResourceId"] is row["ResourceName"] is row["ResourceType"] is None


def test_csv_as_focus_writes_values() -> None:
    text = io.StringIO()
    tiny = estimate(quantity=Decimal("1E-7"), rate_usd=Decimal("0.30"), amount_usd=Decimal("3E-8"))
    assert focus.write_csv(rows(tiny, settled("-0.5", quantity=Decimal(0))), text) == 2
    first, second = csv.DictReader(io.StringIO(text.getvalue()))
    assert (
        tuple(first)
        == focus.COLUMNS
        == (*sorted(name for name in focus.COLUMNS if name[0] != "x"), *focus.COLUMNS[-13:])
    )
    assert (first["BilledCost"], first["PricingQuantity"], first["ListUnitPrice"]) == ("0.00000003", "0.0000001", "0.3")
    assert (first["ChargePeriodStart"], first["x_Simulated"], first["ChargeClass"]) == (
        "2026-11-21T08:30:00Z",
        "false",
        "",
    )
    assert second["BilledCost"] == "-0.5" and second["PricingQuantity"] == ""


def test_parquet_has_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra `focus`")
    assert focus.write_parquet(rows(estimate(), settled("-0.5", quantity=Decimal(0))), tmp_path / "costs.parquet") == 2
    first, second = parquet.read_table(tmp_path / "costs.parquet").to_pylist()
    assert first["BilledCost"] == Decimal("0.1706") and second["PricingQuantity"] is None
    assert first["ChargePeriodStart"] == START and first["x_Attempt"] == 1 and first["x_Simulated"] is False


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(focus.NoParquet, match="extra `focus`"):
        focus.write_parquet(rows(estimate()), tmp_path / "costs.parquet")
