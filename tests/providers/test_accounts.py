"""One client per account: a key that changes while a controller runs is used, and an old client is let go."""

from __future__ import annotations

from providers.accounts import Account, Connection


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
