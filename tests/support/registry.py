"""An image registry on loopback that keeps what is pushed in memory, for one user or for everybody."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    """What was pushed: blobs by digest, manifests by name and reference. `user` is NAME:PASSWORD, or "" for anybody."""

    def __init__(self, user: str = "") -> None:
        self.login = "Basic " + base64.b64encode(user.encode()).decode() if user else ""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.address = ""

    @property
    def images(self) -> list[str]:
        """NAME:TAG of everything that was pushed whole."""
        return sorted(name for name in self.manifests if "@" not in name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> Registry:
        found: Registry = self.server.registry  # type: ignore[attr-defined]
        return found

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self._refused():
            return
        name, kind, reference = f"//{self.path.removeprefix('/v2/')}".rsplit("/", 2)
        name = name.lstrip("/")
        manifest = self.registry.manifests.get(f"{name}{'@' if ':' in reference else ':'}{reference}")
        if self.path == "/v2/":
            self._say(200, b"{}")
        elif kind == "blobs" and reference in self.registry.blobs:
            self._say(200, self.registry.blobs[reference], digest=reference)
        elif kind == "manifests" and manifest is not None:
            self._say(200, manifest[1], manifest[0], digest=_digest(manifest[1]))
        else:
            self._say(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}).encode())

    def do_POST(self) -> None:
        if self._refused():
            return
        self._body()
        upload = uuid.uuid4().hex
        self.registry.uploads[upload] = b""
        self._say(202, location=f"{self.path.partition('?')[0].rstrip('/')}/{upload}")

    def do_PATCH(self) -> None:
        if self._refused():
            return
        upload = self.path.partition("?")[0].rpartition("/")[2]
        self.registry.uploads[upload] += self._body()
        self._say(202, location=self.path)

    def do_PUT(self) -> None:
        if self._refused():
            return
        path, _, query = self.path.partition("?")
        name, kind, reference = path.removeprefix("/v2/").rsplit("/", 2)
        content = self._body()
        if kind == "uploads":
            content = self.registry.uploads.pop(reference) + content
            digest = query.partition("digest=")[2].replace("%3A", ":")
            assert _digest(content) == digest
            self.registry.blobs[digest] = content
        else:
            stored, manifests = (self.headers["Content-Type"], content), self.registry.manifests
            manifests[f"{name}:{reference}"] = manifests[f"{name}@{_digest(content)}"] = stored
        self._say(201, digest=_digest(content), location=f"/v2/{name}/{_digest(content)}")

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _refused(self) -> bool:
        if self.headers.get("Authorization", "") == self.registry.login:
            return False
        self._body()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="private"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = bytearray()
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(content)

    def _say(
        self, status: int, content: bytes = b"", kind: str = "application/json", *, digest: str = "", location: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        upload = self.registry.uploads.get(location.rpartition("/")[2])
        has = f"0-{max(0, len(upload) - 1)}" if upload is not None else ""
        for name, value in (("Docker-Content-Digest", digest), ("Location", location), ("Range", has)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@contextmanager
def serving(user: str = "") -> Iterator[Registry]:
    registry = Registry(user)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.registry = registry  # type: ignore[attr-defined]
        registry.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield registry
        server.shutdown()
