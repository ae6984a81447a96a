"""What the environment says about AWS: endpoints, the region to begin with, who may log in. Asks nobody.

The variables are those of AWS's own SDKs; those that begin with GPUJOB_ are ours.
https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html (2026-11-21)
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from providers.errors import Rejected

FIRST_REGION = "us-east-1"
CHECKIP = "https://checkip.amazonaws.com"
BULK_PRICES = "https://pricing.us-east-1.amazonaws.com"


def endpoint(env: Mapping[str, str], service: str) -> str | None:
    """Where the calls of a service go when the environment says so: its own variable before the common one."""
    if env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
    return env.get(own) or env.get("AWS_ENDPOINT_URL") or None


def is_loopback(url: str | None) -> bool:
    host = urlsplit(url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_simulated(env: Mapping[str, str]) -> bool:
    return is_loopback(endpoint(env, "ec2"))


def region_named(env: Mapping[str, str]) -> str | None:
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None


def bulk_prices(env: Mapping[str, str]) -> str:
    return (endpoint(env, "pricing") or BULK_PRICES).rstrip("/")


def cache_folder(env: Mapping[str, str]) -> str:
    """A name for what is remembered: zones differ between accounts, and a rehearsal is no cloud at all."""
    account = "\n".join((env.get("AWS_PROFILE", ""), env.get("AWS_ACCESS_KEY_ID", ""), endpoint(env, "ec2") or ""))
    return hashlib.sha256(account.encode()).hexdigest()[:12]


def ssh_from(env: Mapping[str, str]) -> tuple[str, ...]:
    """GPUJOB_AWS_SSH_FROM: the networks that may log in to machines, for who leaves by several addresses."""
    named = [text.strip() for text in env.get("GPUJOB_AWS_SSH_FROM", "").split(",") if text.strip()]
    try:
        return tuple(str(ipaddress.IPv4Network(text)) for text in named)
    except ValueError as error:
        raise Rejected(f"GPUJOB_AWS_SSH_FROM must be IPv4 networks such as 203.0.113.0/24: {error}") from error
