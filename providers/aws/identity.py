"""Which AWS account the credentials belong to. A key that lasts belongs to one account for ever: it is asked once.

Knows no machine. GetCallerIdentity needs no permission
(https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html, 2026-11-21).
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from providers.aws import mapping
from providers.aws.cache import Cache
from providers.errors import Unreachable

if TYPE_CHECKING:
    from providers.aws.client import Aws, Login

KEPT = timedelta(days=30)

Json = dict[str, Any]


class Identity:
    """Safe between threads."""

    def __init__(self, aws: Aws, cache: Cache) -> None:
        self._aws = aws
        self._cache = cache

    def account(self, login: Login) -> str:
        """PARTITION:ACCOUNT, such as aws:123456789012. A controller that starts again need not ask."""
        if login.is_temporary:
            return str(self._ask()["account"])
        name = f"account-{hashlib.sha256(login.key_id.encode()).hexdigest()[:16]}"
        return str(self._cache.get(name, KEPT, self._ask)["account"])

    def _ask(self) -> Json:
        said = self._aws.call("sts", self._aws.home_region, "get_caller_identity")
        arn = str(said["Arn"]).split(":")
        account = str(said["Account"])
        if len(arn) < 2 or not arn[1] or not account:
            raise Unreachable("AWS does not say whose the credentials are", provider=mapping.PROVIDER)
        return {"account": f"{arn[1]}:{account}"}
