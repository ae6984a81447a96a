"""moto in this process: its application for all that it does well, and its records, which the cloud directs.

Every simulated cloud has an account of its own there, so that several can stand in one process. moto is imported with
the first request: it takes more than a second. Nothing else in this folder imports it.
"""

from __future__ import annotations

import os
import random
import sys
import weakref
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from wsgiref.types import WSGIEnvironment

from providers.rehearsal.aws.wire import Answer, Call, Refused, read, rewritten

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


class Backing:
    """moto's side of one simulated cloud."""

    def __init__(self) -> None:
        self.account = str(random.SystemRandom().randrange(10**11, 10**12))
        # moto would load 1300 public images into every region, and has none of those that matter here.
        os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        weakref.finalize(self, _forget, self.account)

    def ask(self, environ: WSGIEnvironment, form: Mapping[str, str] | None = None) -> Answer:
        """What moto answers, to another form if there is one."""
        from werkzeug.wrappers import Response

        asked = rewritten(environ, form) if form is not None else dict(environ)
        asked["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        try:
            answer = Response.from_app(self._application, asked, buffered=True)
        except Exception as error:
            raise _unknown(error, read(environ)) from error
        if answer.status_code == 501:
            raise Refused("InvalidAction", "This is not simulated.")
        return answer.status_code, dict(answer.headers), answer.get_data()

    def ec2(self, region: str) -> Any:
        """moto's records of one region."""
        from moto.ec2.models import ec2_backends

        return ec2_backends[self.account][region]

    @cached_property
    def instance_types(self) -> dict[str, dict[str, Any]]:
        from moto.ec2.models.instance_types import INSTANCE_TYPES

        return dict(INSTANCE_TYPES)

    def fitting_types(self, region: str, names: list[str], filters: Mapping[str, list[str]]) -> list[str]:
        """Those of the types that pass the filters. Raises Refused for a filter that does not exist."""
        from moto.core.exceptions import ServiceException

        try:
            found = self.ec2(region).describe_instance_types(names, filters)
        except ServiceException as error:
            raise Refused("InvalidParameterValue", str(error).partition(": ")[2]) from error
        return [row["InstanceType"] for row in found]

    def offerings(self, region: str) -> Iterator[tuple[str, str]]:
        """(instance type, availability zone)."""
        from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS

        for row in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, ()):
            yield row["InstanceType"], row["Location"]

    @cached_property
    def _application(self) -> Any:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        return DomainDispatcherApplication(create_backend_app)


def set_state(shown: Any, state: str, code: str = "", message: str = "", transition: str = "") -> None:
    """What moto says about an instance from now on."""
    shown._state.name, shown._state.code = state, CODES[state]
    shown._reason = transition
    shown.state_reason = SimpleNamespace(code=code, message=message) if code else None


def tags_of(resource: Any) -> dict[str, str]:
    """Straight from moto's table: its own search goes through all tags of the region."""
    return dict(resource.ec2_backend.tags.get(resource.id, {}))


def _forget(account: str) -> None:
    """moto keeps its accounts for as long as the process lives."""
    for name in ("ec2", "s3", "iam", "ssm", "sts", "kms"):
        if (models := sys.modules.get(f"moto.{name}.models")) is not None:  # perhaps just being imported
            getattr(models, f"{name}_backends", {}).pop(account, None)


def _unknown(error: Exception, call: Call) -> Refused:
    """moto raises what it likes for what it does not know. No 500: nobody shall try it again."""
    words = " ".join(str(word) for word in error.args)
    for name in call.filters():
        if name in words:
            return Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
    return Refused("InvalidAction", f"This is not simulated: {words[:200]}")
