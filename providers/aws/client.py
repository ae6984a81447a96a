"""boto3 and nothing else: sessions from the given environment, clients per region, and `translate()`.

RunInstances has clients of its own that try once: boto3 would repeat it on the HTTP 500 with which EC2 says that it has
no capacity, and hide from us whether an answer was lost. Knows no machine, no price and no offer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory
from botocore.credentials import EnvProvider, create_credential_resolver
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from providers import sent
from providers.aws import codes, environment
from providers.aws.codes import Kind
from providers.errors import (
    Ambiguous,
    AuthFailed,
    NoCapacity,
    NotFound,
    OfferGone,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unreachable,
)

CONNECT_SECONDS = 5
READ_SECONDS = 20
LAUNCH_SECONDS = 60  # EC2 answers a RunInstances when it has found a place
ATTEMPTS = 3
THROTTLED_SECONDS = 5.0
LONGEST_WAIT = 3600.0
_LONGEST_CODE = 100
_LONGEST_WORDS = 500

Json = dict[str, Any]

# Of boto3's parser come KeyError, TypeError and ValueError as they are, for what is well-formed and none of AWS's.
_NONSENSE = (ResponseParserError, KeyError, TypeError, ValueError, AttributeError, RecursionError)
_ERRORS = (ClientError, BotoCoreError, OSError, *_NONSENSE)
_NOTHING_SENT = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError, SSLError)
_NO_LOGIN = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
    ProfileNotFound,
    NoRegionError,
)
_DMI_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call, as far as its errors are told: `creates` is a call that costs money when it has come through."""

    service: str
    region: str
    operation: str  # as boto3 spells it: run_instances
    creates: bool = False
    machine_type: str = ""
    spot: bool = False

    @property
    def api(self) -> str:
        """As AWS spells it, in its documents and in permissions: RunInstances."""
        return "".join(word[:1].upper() + word[1:] for word in self.operation.split("_"))

    def __str__(self) -> str:
        return f"{self.api} in {self.region}" if self.region else self.api


@dataclass(frozen=True)
class Login:
    """The public half of a key: it names an account for ever."""

    key_id: str
    is_temporary: bool


class Aws:
    """Calls to AWS's services. Safe between threads; clients are made when first used and kept."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._lock = threading.RLock()
        self._session: Any = None
        self._clients: dict[tuple[str, str, bool], Any] = {}

    def call(self, service: str, region: str, operation: str, **parameters: Any) -> Json:
        """One call; what may be repeated is repeated by boto3."""
        return self._call(Asked(service=service, region=region, operation=operation), parameters)

    def try_call(
        self, accept: Collection[str], service: str, region: str, operation: str, **parameters: Any
    ) -> Json | None:
        """The same; None when AWS answers with one of the error codes in `accept`."""
        return self._call(Asked(service=service, region=region, operation=operation), parameters, accept=accept) or None

    def launch(self, region: str, *, accept: Collection[str], **parameters: Any) -> Json | None:
        """RunInstances, sent once. None for the error codes in `accept`: clear answers that nothing was made."""
        asked = Asked(
            service="ec2",
            region=region,
            operation="run_instances",
            creates=True,
            machine_type=str(parameters["InstanceType"]),
            spot="InstanceMarketOptions" in parameters,
        )
        return self._call(asked, parameters, accept=accept) or None

    def pages(self, service: str, region: str, operation: str, key: str, **parameters: Any) -> list[Json]:
        """All entries of a list that comes in pages."""
        asked = Asked(service=service, region=region, operation=operation)
        try:
            client = self._client(service, region)
            pages = client.get_paginator(operation).paginate(**parameters)
            return [entry for page in pages for entry in _listed(page, key, asked)]
        except _ERRORS as error:
            raise translate(error, asked) from error

    def has_credentials(self) -> bool:
        """Whether the chain finds credentials in the environment, in files, or in the role of an EC2 machine."""
        try:
            with self._lock:
                return self._opened().get_credentials() is not None
        except _ERRORS as error:
            raise translate(error, Asked(service="sts", region="", operation="get_caller_identity")) from error

    def login(self) -> Login:
        """By which key is asked now. A role's is another one every hour, of the same account."""
        asked = Asked(service="sts", region="", operation="get_caller_identity")
        try:
            with self._lock:
                found = self._opened().get_credentials()
            key = found.get_frozen_credentials() if found is not None else None
        except _ERRORS as error:
            raise translate(error, asked) from error
        if key is None:
            raise AuthFailed("there are no AWS credentials", provider="aws")
        return Login(key.access_key, is_temporary=bool(key.token))

    @property
    def home_region(self) -> str:
        """The region that is asked what belongs to no region."""
        with self._lock:
            try:
                configured = self._opened().region_name
            except _ERRORS as error:
                raise translate(error, Asked(service="ec2", region="", operation="describe_regions")) from error
        return environment.region_named(self._env) or configured or environment.FIRST_REGION

    def _call(self, asked: Asked, parameters: Mapping[str, Any], *, accept: Collection[str] = ()) -> Json:
        try:
            client = self._client(asked.service, asked.region, launches=asked.creates)
            answer: Json = getattr(client, asked.operation)(**parameters)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in accept:
                return {}
            raise translate(error, asked) from error
        except _ERRORS as error:
            raise translate(error, asked) from error
        if _is_page(answer):
            raise _unclear(f"no answer to {asked}, but a page of somebody else's", asked)
        return _Answer(asked, answer)

    def _client(self, service: str, region: str, *, launches: bool = False) -> Any:
        key = (service, region, launches)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make_client(service, region, launches=launches)
            return self._clients[key]

    def _make_client(self, service: str, region: str, *, launches: bool) -> Any:
        url = environment.endpoint(self._env, service)
        config = Config(
            retries={"total_max_attempts": 1 if launches else ATTEMPTS, "mode": "standard"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=LAUNCH_SECONDS if launches else READ_SECONDS,
            max_pool_connections=16,
            tcp_keepalive=True,
            user_agent_extra="gpujob",
        )
        client = self._opened().client(service, region_name=region, endpoint_url=url, config=config)
        real = not environment.is_loopback(client.meta.endpoint_url)
        if environment.is_simulated(self._env) and real:
            text = f"EC2 is simulated here and {service} is not: AWS_ENDPOINT_URL must cover every service"
            raise Rejected(text, provider="aws")
        return client

    def _opened(self) -> Any:
        if self._session is None:
            logging.getLogger("botocore").setLevel(logging.WARNING)
            self._session = boto3.Session(botocore_session=_core(self._env))
        return self._session


class _Answer(dict[str, Any]):
    """What AWS said. A part that it must have and has not is no answer: Unreachable, or Ambiguous."""

    def __init__(self, asked: Asked, said: Json) -> None:
        super().__init__(said)
        self._asked = asked

    def __missing__(self, key: str) -> Any:
        raise _unclear(f"{self._asked}: the answer has no {key}", self._asked)


def translate(error: Exception, asked: Asked) -> ProviderError:
    """The one place where boto3's errors become ours."""
    if isinstance(error, ClientError):
        return _refusal(error, asked)
    if isinstance(error, _NO_LOGIN):
        return AuthFailed(f"no login to AWS: {error}", provider="aws")
    said = f"{asked}: {_short(error)}"
    if isinstance(error, _NOTHING_SENT):
        return Unreachable(f"AWS cannot be reached for {said}", provider="aws")
    if isinstance(error, (HTTPClientError, OSError, *_NONSENSE)):
        return _unclear(f"no answer to {said}", asked)
    return Rejected(f"{said}", provider="aws")


def _refusal(error: ClientError, asked: Asked) -> ProviderError:
    said = error.response.get("Error", {})
    code, message = str(said.get("Code", ""))[:_LONGEST_CODE], codes.without_blob(str(said.get("Message", "")))
    metadata = error.response.get("ResponseMetadata", {})
    text = f"{asked}: {code}: {message}"
    kind = codes.kind_of(code, int(metadata.get("HTTPStatusCode") or 0))
    if kind is Kind.UNKNOWN_OUTCOME:
        return _unclear(text, asked)
    if kind is Kind.AUTH:
        return AuthFailed(_auth_text(code, message, text, asked), provider="aws")
    if kind is Kind.QUOTA:
        return QuotaExceeded(_quota_text(code, text, asked), provider="aws")
    if kind in (Kind.THROTTLE, Kind.IN_USE):
        wanted = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
        return Throttled(text, after=min(sent.whole(wanted) or THROTTLED_SECONDS, LONGEST_WAIT), provider="aws")
    if kind is Kind.TOKEN_MISMATCH and asked.creates:
        # The token belongs to one name: an earlier create of this very machine came through, with other tags perhaps.
        return codes.AskedBefore(f"{text}; a machine of this name was asked for before", provider="aws")
    return _CLASSES.get(kind, Rejected)(text, provider="aws")


# A spent token means that the name was used up: the next machine needs the next name, which the next try brings.
_CLASSES: Mapping[Kind, type[ProviderError]] = {
    Kind.CAPACITY: NoCapacity,
    Kind.NOT_HERE: OfferGone,
    Kind.TOKEN_SPENT: OfferGone,
    Kind.NOT_FOUND: NotFound,
}


def _listed(page: Json, key: str, asked: Asked) -> list[Json]:
    """A page's entries. AWS names a list that is empty, too: an answer without it is none, and would hide machines."""
    entries = page.get(key)
    if not isinstance(entries, list):
        raise _unclear(f"{asked}: the answer has no {key}", asked)
    return entries


def _is_page(answer: Json) -> bool:
    """Whether it is of somebody in between: HTML may be well-formed, and every answer of AWS's names its request."""
    return not answer.get("ResponseMetadata", {}).get("RequestId")


def _short(error: Exception) -> str:
    return (f"{error}" or type(error).__name__)[:_LONGEST_WORDS]


def _unclear(text: str, asked: Asked) -> ProviderError:
    return Ambiguous(text, provider="aws") if asked.creates else Unreachable(text, provider="aws")


def _auth_text(code: str, message: str, text: str, asked: Asked) -> str:
    if code in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"):
        missing = codes.permission(message, service=asked.service, operation=asked.api)
        return f"{text}; the permission {missing} is missing"
    if code == "AuthFailure.ServiceLinkedRoleCreationNotPermitted":
        return f"{text}; the permission iam:CreateServiceLinkedRole for spot.amazonaws.com is missing"
    if code in codes.NOT_ENABLED:
        return f"{text}; the key is wrong, or the account has not enabled {asked.region}"
    if code == "RequestExpired":
        return f"{text}; this computer's clock may be wrong"
    return text


def _quota_text(code: str, text: str, asked: Asked) -> str:
    if code not in ("VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"):
        return f"{text}; raise it at https://{asked.region}.console.aws.amazon.com/servicequotas/home/services"
    if not asked.machine_type:
        return text
    return f"{text}; {codes.quota_advice(asked.machine_type, spot=asked.spot, region=asked.region)}"


def _core(env: Mapping[str, str]) -> Any:
    """A session that reads the given environment instead of the process's, and waits for no metadata server."""
    core = botocore.session.Session()
    core.register_component("data_loader", _descriptions())
    chains = ConfigChainFactory(session=core, environ=dict(env))
    store = core.get_component("config_store")
    for name, (in_file, in_env, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        chain = chains.create_config_chain(
            instance_name=name,
            env_var_names=in_env,
            config_property_names=in_file,
            default=default,
            conversion_func=convert,
        )
        store.set_config_provider(name, chain)
    resolver = create_credential_resolver(core)
    resolver.insert_before(EnvProvider.METHOD, _OurEnvironment(environ=dict(env)))
    resolver.remove(EnvProvider.METHOD)
    if not _has_metadata_server(env):
        resolver.remove("iam-role")
    core.register_component("credential_provider", resolver)
    return core


@cache
def _descriptions() -> Any:
    """AWS's descriptions of its services. EC2's alone takes a quarter of a second to read: once for all sessions."""
    return create_loader()


class _OurEnvironment(EnvProvider):
    METHOD = "given-env"


def _has_metadata_server(env: Mapping[str, str]) -> bool:
    """Elsewhere than on EC2 the question for a role only costs seconds."""
    if env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    if env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return True
    try:
        return _DMI_VENDOR.read_text().strip() == "Amazon EC2"
    except OSError:
        return False
