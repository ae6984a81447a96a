"""The instance metadata service, version 2, as machines see it at http://169.254.169.254.

Each instance has its own below PREFIX/<instance id>; whoever runs the machine leads the link-local address there.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4
from wsgiref.types import WSGIEnvironment

from providers.rehearsal.aws.fleet import Rented
from providers.rehearsal.aws.wire import Answer

if TYPE_CHECKING:
    from providers.rehearsal.aws.cloud import AwsCloud

PREFIX = "/imds/"

_TOKEN = "/latest/api/token"
_LONGEST = 21600  # seconds that a token may live


def answer(cloud: AwsCloud, environ: WSGIEnvironment) -> Answer:
    instance_id, _, rest = environ["PATH_INFO"].removeprefix(PREFIX).partition("/")
    path = f"/{rest}".rstrip("/")
    try:
        rented = cloud.fleet[instance_id]
    except KeyError:
        return _text(404, "no such instance")
    if path == _TOKEN:
        return _token(environ, rented)
    if not _may_read(environ, rented):
        return _text(401, "Unauthorized")
    return _read(cloud, rented, path)


def _token(environ: WSGIEnvironment, rented: Rented) -> Answer:
    if environ["REQUEST_METHOD"] != "PUT":
        return _text(405, "Not Allowed")
    wanted = environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", "")
    if not wanted.isdigit() or not 1 <= int(wanted) <= _LONGEST:
        return _text(400, "Bad Request")
    token = str(uuid4())
    rented.metadata_tokens.add(token)
    status, headers, body = _text(200, token)
    return status, headers | {"X-aws-ec2-metadata-token-ttl-seconds": wanted}, body


def _may_read(environ: WSGIEnvironment, rented: Rented) -> bool:
    """With HttpTokens=required only what carries a token is answered (version 2)."""
    token = environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN")
    if token is None:
        return bool(rented.shown.metadata_options.http_tokens != "required")
    return token in rented.metadata_tokens


def _read(cloud: AwsCloud, rented: Rented, path: str) -> Answer:
    if path == "/latest/user-data":
        return _text(200, rented.request.user_data) if rented.request.user_data else _text(404, "Not Found")
    if path == "/latest/dynamic/instance-identity/document":
        return _text(200, json.dumps(_identity(cloud, rented)))
    known = _metadata(rented, cloud.clock())
    name = path.removeprefix("/latest/meta-data").lstrip("/")
    if path.startswith("/latest/meta-data") and name in known:
        return _text(200, known[name])
    below = {
        key.removeprefix(f"{name}/" if name else "") for key in known if key.startswith(f"{name}/" if name else "")
    }
    if path.startswith("/latest/meta-data") and below:
        return _text(200, "\n".join(sorted({key.partition("/")[0] + "/" * ("/" in key) for key in below})))
    return _text(404, "Not Found")


def _metadata(rented: Rented, now: datetime) -> dict[str, str]:
    shown = rented.shown
    found = {
        "ami-id": str(shown.image_id),
        "hostname": str(shown.private_dns_name),
        "instance-id": rented.id,
        "instance-life-cycle": "spot" if rented.spot else "on-demand",
        "instance-type": rented.type,
        "local-ipv4": str(shown.private_ip),
        "placement/availability-zone": rented.zone,
        "placement/region": rented.region,
    }
    if shown.nics[0].public_ip:
        found["public-ipv4"] = str(shown.nics[0].public_ip)
    for number, key in enumerate(rented.request.authorized_keys):
        found[f"public-keys/{number}/openssh-key"] = key
    if (notice := rented.notice_at) is not None and notice <= now and rented.interrupt_at is not None:
        when = rented.interrupt_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        found["spot/instance-action"] = json.dumps({"action": "terminate", "time": when})
        found["spot/termination-time"] = when
    return found


def _identity(cloud: AwsCloud, rented: Rented) -> dict[str, str]:
    return {
        "accountId": cloud.backing.account,
        "architecture": str(rented.shown.architecture),
        "availabilityZone": rented.zone,
        "imageId": str(rented.shown.image_id),
        "instanceId": rented.id,
        "instanceType": rented.type,
        "pendingTime": rented.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": rented.region,
    }


def _text(status: int, body: str) -> Answer:
    return status, {"Content-Type": "text/plain", "Server": "EC2ws"}, body.encode()
