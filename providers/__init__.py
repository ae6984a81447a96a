"""Where jobs run. One folder per cloud; this page is the register, and opens a provider only when it is first used."""

from __future__ import annotations

from importlib import import_module

from providers.base import Provider, Settings

_REGISTER = {
    "local": "providers.local.provider:LocalProvider",
    "ssh": "providers.ssh.provider:SshProvider",
    "aws": "providers.aws.provider:AwsProvider",
    "runpod": "providers.runpod.provider:RunpodProvider",
    "vast": "providers.vast.provider:VastProvider",
}


def names() -> tuple[str, ...]:
    """Every provider that can be named in a spec or on the command line."""
    return tuple(_REGISTER)


def open_provider(name: str, settings: Settings) -> Provider:
    """The provider called `name`. Raises KeyError for an unknown name: callers check against `names()` first."""
    module, _, attribute = _REGISTER[name].partition(":")
    provider: Provider = getattr(import_module(module), attribute)(settings)
    return provider
