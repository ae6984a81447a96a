"""Where things lie on this computer: paths below GPUJOB_HOME, and nothing else. Opens and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AttemptFolder:
    """What one attempt brought back, byte for byte as the machine had it."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def telemetry(self) -> Path:
        return self.root / "telemetry"

    @property
    def events(self) -> Path:
        return self.root / "events"


@dataclass(frozen=True)
class RunFolder:
    """Everything of one run that is not a row in the store."""

    root: Path

    @property
    def spec(self) -> Path:
        """train.yaml as it was submitted."""
        return self.root / "train.yaml"

    @property
    def bundle(self) -> Path:
        """The working directory as it was at submission."""
        return self.root / "bundle.tar.gz"

    @property
    def key(self) -> Path:
        """This run's own ed25519 private key, 0600."""
        return self.root / "key"

    @property
    def host_keys(self) -> Path:
        """For each rented machine the private key by which it, and no other, is known; 0600, as long as the run."""
        return self.root / "host_keys"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts.json"

    @property
    def metrics(self) -> Path:
        """Every metric of every attempt, one JSON line each."""
        return self.root / "metrics.jsonl"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def manifest(self) -> Path:
        return self.root / "artifacts.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def attempt(self, number: int) -> AttemptFolder:
        return AttemptFolder(self.root / "attempts" / str(number))


@dataclass(frozen=True)
class Home:
    """GPUJOB_HOME."""

    root: Path

    @classmethod
    def find(cls, env: Mapping[str, str] | None = None) -> Home:
        """GPUJOB_HOME, or the platform's data directory."""
        env = os.environ if env is None else env
        if chosen := env.get("GPUJOB_HOME"):
            return cls(Path(chosen).expanduser().absolute())
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("gpujob", appauthor=False)))

    def database_url(self, env: Mapping[str, str] | None = None) -> str:
        """GPUJOB_DATABASE_URL, or a SQLite file here."""
        env = os.environ if env is None else env
        return env.get("GPUJOB_DATABASE_URL") or f"sqlite:///{self.root / 'store.db'}"

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def secrets(self) -> Path:
        """NAME=VALUE lines, 0600, written by the user."""
        return self.root / "secrets.env"

    @property
    def lock(self) -> Path:
        """Held by the one controller of a SQLite store."""
        return self.root / "controller.lock"

    @property
    def controller_log(self) -> Path:
        return self.root / "controller.log"

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self.root / "runs" / run_id)

    def schedule(self, schedule_id: str) -> RunFolder:
        """What a schedule's runs are made of: the job as it was added; with --frozen also its files."""
        return RunFolder(self.root / "schedules" / schedule_id)
