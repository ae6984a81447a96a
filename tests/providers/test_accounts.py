"""One client and one name per account: a key that changes while a controller runs is used, an old client let go."""

from __future__ import annotations

import pytest

from providers.accounts import FAILURE_KEPT, Account, Connection, Whose
from providers.errors import AuthFailed, ProviderError, Unreachable
from tests.fakes.clock import FakeClock


class Client:
    def __init__(self, account: Account) -> None:
        self.account, self.closed = account, 0

    def close(self) -> None:
        self.closed += 1


def test_a_client_is_kept_for_as_long_as_the_account_is_the_same() -> None:
    connection = Connection(Client)
    first = connection.to(Account("https://cloud.example", "one"))
    assert connection.to(Account("https://cloud.example", "one")) is first and first.closed == 0
    second = connection.to(Account("https://cloud.example", "two"))
    assert second.account.key == "two" and first.closed == 1


def test_who_asks_after_the_close_gets_a_new_one() -> None:
    connection, account = Connection(Client), Account("https://cloud.example", "one")
    first = connection.to(account)
    connection.close()
    connection.close()
    assert first.closed == 1 and connection.to(account) is not first


class Asked:
    """A question whose answers are given, and how often it was asked."""

    def __init__(self, *answers: str | ProviderError) -> None:
        self.answers, self.times = list(answers), 0

    def __call__(self) -> str:
        self.times += 1
        answer = self.answers.pop(0)
        if isinstance(answer, ProviderError):
            raise answer
        return answer


def test_whose_credentials_are_is_asked_once_for_each() -> None:
    clock, ask = FakeClock(), Asked("one", "two")
    whose = Whose(clock)
    assert [whose.account("a", ask) for _ in range(3)] == ["one"] * 3
    clock.advance(10 * 24 * 3600)
    assert whose.account("a", ask) == "one" and ask.times == 1
    assert whose.account("b", ask) == "two" and ask.times == 2


def test_a_cloud_that_does_not_answer_is_asked_again_after_a_while_and_not_by_everybody() -> None:
    clock, ask = FakeClock(), Asked(Unreachable("no answer"), "one")
    whose = Whose(clock)
    for _ in range(3):
        with pytest.raises(Unreachable):
            whose.account("a", ask)
    assert ask.times == 1
    clock.advance(FAILURE_KEPT.total_seconds() + 1)
    assert whose.account("a", ask) == "one"


def test_credentials_that_may_not_know_it_say_nothing_until_they_may() -> None:
    clock, ask = FakeClock(), Asked(AuthFailed("no permission"), "one")
    whose = Whose(clock)
    assert whose.account("a", ask) == whose.account("a", ask) == ""
    clock.advance(FAILURE_KEPT.total_seconds() + 1)
    assert whose.account("a", ask) == "one"
