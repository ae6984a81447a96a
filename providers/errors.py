"""What can go wrong with a cloud, named by what the caller does next.

    ProviderError
    ├── NoCapacity        nothing there now: try the next offer
    ├── OfferGone         this very offer was taken: next offer, same price class
    ├── BadHost           the machine is not what was sold: remember it, next offer
    ├── QuotaExceeded     stop; the message says which quota and how to raise it
    ├── AuthFailed        stop; the message says which key or permission
    ├── NoFunds           stop; the account must be topped up
    ├── Throttled         the same call again after `after` seconds
    ├── Ambiguous         it may have happened: look for our name before anything else
    ├── Unreachable       no answer: nothing is known, least of all that a machine is gone
    ├── NotFound          the cloud says that it does not exist: done
    └── Rejected          our request is wrong: a bug or a bad spec; trying again is useless

Every provider maps its SDK's and transport's errors to these in one `translate()`.
Messages never contain a credential.
"""

from __future__ import annotations


class ProviderError(Exception):
    """Base of everything a provider raises; `provider` names the cloud that it came from."""

    def __init__(self, message: str, *, provider: str = "") -> None:
        super().__init__(message)
        self.provider = provider


class NoCapacity(ProviderError):
    """The cloud has none of these now: the next offer may have."""


class OfferGone(ProviderError):
    """Somebody else rented this very offer: another of the same price class may be had."""


class BadHost(ProviderError):
    """The machine is broken or not what was sold: remember it and take another."""


class QuotaExceeded(ProviderError):
    """The account may not rent this; the message names the quota and how to raise it."""


class AuthFailed(ProviderError):
    """No key, a bad key or a missing permission; the message says which."""


class NoFunds(ProviderError):
    """The account cannot pay for this."""


class Throttled(ProviderError):
    """Too many requests: the same call may be repeated after `after` seconds."""

    def __init__(self, message: str, *, after: float, provider: str = "") -> None:
        super().__init__(message, provider=provider)
        self.after = after


class Ambiguous(ProviderError):
    """A create may have happened although no clean yes came back; `created_id` when the cloud named the machine."""

    def __init__(self, message: str, *, created_id: str | None = None, provider: str = "") -> None:
        super().__init__(message, provider=provider)
        self.created_id = created_id


class Unreachable(ProviderError):
    """The cloud did not answer (network, time-out, 5xx): nothing is known."""


class NotFound(ProviderError):
    """The cloud's own word that this machine does not exist."""


class Rejected(ProviderError):
    """The cloud refuses the request as wrong: a bug of ours or a bad spec."""
