"""The contract on a computer behind a real OpenSSH server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from providers.base import OfferQuery, Provider, Settings
from providers.ssh.provider import SshProvider
from tests.contract.contract import Advance, ProviderContract
from tests.providers.inventories import entry
from tests.support.sshd import running_sshd


@pytest.mark.process
@pytest.mark.sshd
class TestSsh(ProviderContract):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> Iterator[Provider]:
        with running_sshd(tmp_path) as server:
            facts: dict[str, Any] = {
                "cpus": 8,
                "memory": "32GB",
                "disk": "500GB",
                "gpus": "RTX4090:2",
                "price_per_hour": "0.36",
            }
            text = entry(server, directory=tmp_path / "machines", **facts)
            (tmp_path / "hosts.toml").write_text(text)
            provider = SshProvider(Settings(home=tmp_path, env={}, now=lambda: datetime.now(UTC)))
            yield provider
            provider.close()

    @pytest.fixture
    def offer_query(self) -> OfferQuery:
        return OfferQuery(vcpus=1, memory_gb=0.1, disk_gb=0.1)

    @pytest.fixture
    def advance(self, tmp_path: Path) -> Advance:
        """The computer's clock is the real one: its machines become older instead."""

        def age(seconds: float) -> None:
            for path in (tmp_path / "machines").glob("*/machine.json"):
                record = json.loads(path.read_text())
                path.write_text(json.dumps({**record, "created_at": record["created_at"] - seconds}))

        return age
