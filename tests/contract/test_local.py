"""The contract on this computer."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.base import OfferQuery, Provider, Settings
from providers.local.provider import LocalProvider
from tests.contract.contract import Advance, ProviderContract
from tests.fakes.clock import FakeClock


@pytest.mark.process
class TestLocal(ProviderContract):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def provider(self, tmp_path: Path, clock: FakeClock) -> Provider:
        (tmp_path / "config.toml").write_text('[local]\nprice_per_hour = "0.36"\n')
        return LocalProvider(Settings(home=tmp_path, env={}, now=clock))

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(vcpus=1, memory_gb=0.1, disk_gb=0.1)

    @pytest.fixture
    def advance(self, clock: FakeClock) -> Advance:
        return clock.advance
