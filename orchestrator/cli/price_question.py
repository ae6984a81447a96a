"""What all ways of `gpujob prices` share: the question as it was typed, who did not answer it, rows as CSV."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.cli.output import say

if TYPE_CHECKING:
    from orchestrator.cli.session import Session
    from orchestrator.placement import Ranking
    from orchestrator.prices import Market, Rates

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Question:
    """The options that say whose prices, and of what work: None where nothing was said."""

    gpus: tuple[str, ...]
    providers: tuple[str, ...]
    regions: tuple[str, ...]
    spot: bool | None
    hours: Decimal | None
    disk: Decimal | None
    egress: Decimal | None
    ingress: Decimal | None
    per: str | None
    timeout: float

    def market(self, session: Session) -> Market:
        """Who is asked. Asks nobody yet."""
        from orchestrator.prices import Market, Stated, Wanted, Work

        wanted = Wanted(gpus=self.gpus, providers=self.providers, regions=self.regions, spot=self.spot)
        amounts = {"hours": self.hours, "disk_gb": self.disk, "egress_gb": self.egress, "ingress_gb": self.ingress}
        work = Work(**{name: amount for name, amount in amounts.items() if amount is not None})
        return Market(Stated(wanted, work), home=session.home, env=session.env, work=self.rates(session))

    def rates(self, session: Session) -> Rates | None:
        """What the benchmarks in the store say of the work that is asked for."""
        if self.per is None:
            return None
        from orchestrator.benchmarks import speeds
        from orchestrator.cli.errors import Stop

        rows = session.store.benchmarks.results()
        if found := speeds.rates(rows, self.per):
            return found
        known = ", ".join(speeds.works(rows)) or "nothing yet: gpujob bench run suite.yaml"
        raise Stop(f"--per {self.per}: no benchmark has counted it on a real GPU; there is {known}")


def taken(record: type[Record], options: dict[str, Any]) -> Record:
    """A record of those options that are its fields, which are taken out."""
    return record(**{field.name: options.pop(field.name) for field in fields(record)})  # type: ignore[arg-type]


def say_who_is_missing(ranking: Ranking) -> None:
    """Clouds that did not answer, and those at which nothing can be rented."""
    for line in who_is_missing(ranking):
        say(line)


def who_is_missing(ranking: Ranking) -> list[str]:
    """The same, not yet said."""
    from orchestrator.reports.words import one_line

    heard = {ranked.offer.provider for ranked in ranking.offers if ranked.is_stale}
    silent = [
        f"{name}: {one_line(str(error))}{'; what was last heard of it is listed' if name in heard else ''}"
        for name, error in ranking.unavailable.items()
    ]
    return silent + [
        f"{name}: prices only, nothing can be rented there: {one_line(reason)}"
        for name, reason in ranking.passed_over.items()
    ]
