"""A cloud as one attempt may believe it: "not found" counts only in the account in which its machine was made.

Whoever has changed a key asks another account, and a cloud says there of every machine that it does not exist. This is
the one place of that rule: what looks after a machine asks for it through here. Knows no phase and no store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from orchestrator.records import Attempt
from providers.base import Charge, Check, Instance, LaunchRequest, Offer, OfferQuery, Offers, Provider, Rate
from providers.errors import NotFound, ProviderError

ACCOUNT = "account"  # in the notes of an attempt: which account was asked for its machine


class AnotherAccount(ProviderError):
    """The machine was made in another account than the one that is asked: nothing is known of it."""


def account_of(provider: Provider) -> str:
    """Which account would be asked now; "" when nobody says."""
    try:
        return provider.account()
    except ProviderError:
        return ""


def ask_beside(providers: Iterable[Provider]) -> None:
    """Begin to ask clouds whose the credentials are: they keep the answer until it is needed. Waits for none."""
    for provider in providers:
        if not provider.traits.owned and provider.unusable() is None:
            threading.Thread(target=account_of, args=(provider,), name=f"whose {provider.name}", daemon=True).start()


class SameAccount:
    """Implements Provider for one attempt's machine. An attempt of which no account is known believes everything."""

    def __init__(self, provider: Provider, attempt: Attempt) -> None:
        self.name = provider.name
        self.traits = provider.traits
        self._provider = provider
        self._made_in = str(attempt.notes.get(ACCOUNT) or "")

    def unusable(self) -> str | None:
        return self._provider.unusable()

    def account(self) -> str:
        return self._provider.account()

    def check(self) -> Check:
        return self._provider.check()

    def offers(self, query: OfferQuery) -> Offers:
        return self._provider.offers(query)

    def create(self, offer: Offer, request: LaunchRequest) -> Instance:
        return self._provider.create(offer, request)

    def get(self, instance_id: str) -> Instance:
        """Raises NotFound where that says something; AnotherAccount, and what asking for the account raises."""
        try:
            return self._provider.get(instance_id)
        except NotFound:
            self._refuse_another_account()
            raise

    def find(self, name: str, offer: Offer) -> Instance | None:
        found = self._provider.find(name, offer)
        if found is None:
            self._refuse_another_account()
        return found

    def list(self, owner: str) -> Sequence[Instance]:
        return self._provider.list(owner)

    def terminate(self, instance_id: str) -> None:
        self._provider.terminate(instance_id)

    def charges(self, instance: Instance, since: datetime) -> Sequence[Charge]:
        found = self._provider.charges(instance, since)
        if not found:
            self._refuse_another_account()
        return found

    def rates(self, offer: Offer, since: datetime) -> Mapping[str, Sequence[Rate]]:
        return self._provider.rates(offer, since)

    def _refuse_another_account(self) -> None:
        """After a "no such machine". That the account cannot be asked is no yes: it is raised, too."""
        if not self._made_in or (asked := self._provider.account()) == self._made_in:
            return
        whose = f"of account {asked}" if asked else "of an account that they may not name"
        raise AnotherAccount(
            f"it was made in account {self._made_in}, and the credentials that are used now are {whose}, "
            f"which knows nothing of it. Give gpujob's controller credentials of account {self._made_in} again: "
            "then it is ended",
            provider=self.name,
        )
