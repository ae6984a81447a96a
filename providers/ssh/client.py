"""One computer of the user's, asked over SSH: providers/host.py is sent with every question, and answers in JSON.

Owns all of paramiko here, the warm connection, host keys, and `translate()`. Nothing is installed on the computer, so
nothing there can be old or half-written. Every call ends within its seconds although paramiko's own may wait for ever.
"""

from __future__ import annotations

import json
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from providers.errors import AuthFailed, BadHost, ProviderError, Throttled, Unreachable
from providers.ssh.inventory import Host
from providers.ssh.seen import SeenKeys

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # it prints tracebacks where we raise

CONNECT_SECONDS = 15.0
IDLE_SECONDS = 60.0  # an older connection is made anew: a router may have forgotten it

_CHANNEL_SECONDS = 5.0
_ANSWER_BYTES = 8 * 1024 * 1024
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_NO_PROGRAM = (126, 127)

Json = dict[str, Any]


class HostKeyChanged(Exception):
    """The computer showed another key than the one known for it."""


class KeyUnusable(Exception):
    """The private key is missing, encrypted or no key; or there is none to offer."""


class LoginRefused(Exception):
    """The computer lets none of our keys in."""


class NoSense(Exception):
    """The computer ran the question, and what came back is no answer."""

    def __init__(self, exit_code: int, said: str) -> None:
        super().__init__(said)
        self.exit_code = exit_code


class HostClient:
    """Safe to use from several threads: each question has a channel of its own on the one connection."""

    def __init__(self, host: Host, seen: SeenKeys, env: Mapping[str, str]) -> None:
        self.host = host
        self.key_path: Path | None = host.key  # the file whose key was let in last
        self._seen = seen
        self._env = env
        self._lock = threading.Lock()
        self._transport: paramiko.Transport | None = None
        self._used_at = 0.0
        self._failure: tuple[float, Exception] = (0.0, TimeoutError())

    @property
    def host_keys(self) -> tuple[str, ...]:
        """The keys that this computer may show: those of the inventory, else the one seen first."""
        return self.host.host_keys or self._seen.of(self.host.name)

    def ask(self, command: str, request: Json, *, seconds: float, lost: type[ProviderError] = Unreachable) -> Json:
        """The answer of host.py. `lost` is raised when the question was sent and no answer came back."""
        try:
            channel = self._channel()
        except (paramiko.SSHException, OSError, EOFError, HostKeyChanged, KeyUnusable, LoginRefused) as error:
            raise translate(error, self.host) from error
        try:
            return self._exchange(channel, command, request, seconds)
        except (paramiko.SSHException, OSError, EOFError) as error:
            text = f"{_called(self.host)} did not answer to {command}: {_said(error)}"
            raise lost(text, provider="ssh") from error
        except NoSense as error:
            raise translate(error, self.host) from error

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _channel(self) -> paramiko.Channel:
        asked_at = time.monotonic()
        with self._lock:
            failed_at, failure = self._failure
            if failed_at > asked_at:
                raise failure  # to connect was tried while this question waited: not another time-out for each
            was_warm = self._transport is not None
            try:
                return self._opened()
            except (paramiko.SSHException, OSError, EOFError) as error:
                if not was_warm or isinstance(error, paramiko.ChannelException):
                    raise
                self._drop()  # nothing was sent yet, so a connection that had died unnoticed costs one more try
                return self._opened()

    def _opened(self) -> paramiko.Channel:
        now = time.monotonic()
        if self._transport is not None and (now - self._used_at > IDLE_SECONDS or not self._transport.is_active()):
            self._drop()
        if self._transport is None:
            try:
                self._transport = self._connect()
            except Exception as error:
                self._failure = (time.monotonic(), error)
                raise
        self._used_at = now
        return self._transport.open_session(timeout=_CHANNEL_SECONDS)

    def _drop(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            _close(transport)

    def _connect(self) -> paramiko.Transport:
        connection = socket.create_connection((self.host.host, self.host.port), timeout=CONNECT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # paramiko does not: 40 ms per question
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport = paramiko.Transport(connection)
        watchdog = _Watchdog(CONNECT_SECONDS, transport)
        try:
            self._agree(transport)
        except BaseException as error:
            _close(transport)
            if watchdog.barked:
                raise TimeoutError(f"no login within {CONNECT_SECONDS:g} s") from error
            raise
        finally:
            watchdog.cancel()
        return transport

    def _agree(self, transport: paramiko.Transport) -> None:
        """Encryption, then whether this is the right computer, then whether we are let in."""
        expected = self.host_keys
        options = transport.get_security_options()
        kinds = [key.split()[0].replace("ssh-rsa", "rsa-sha2-512") for key in expected]
        options.key_types = tuple(sorted(options.key_types, key=lambda kind: kind not in kinds))
        transport.start_client(timeout=CONNECT_SECONDS)
        server = transport.get_remote_server_key()
        shown = f"{server.get_name()} {server.get_base64()}"
        if expected and shown not in expected:
            raise HostKeyChanged(shown)
        self._log_in(transport)
        if not expected and shown not in self._seen.remember(self.host.name, shown):
            raise HostKeyChanged(shown)

    def _log_in(self, transport: paramiko.Transport) -> None:
        refused: Exception | None = None
        for key, path in self._keys():
            try:
                if not transport.auth_publickey(self.host.user, key):
                    self.key_path = path
                    return
                refused = LoginRefused("wants more than a key")
            except (paramiko.SSHException, EOFError) as error:
                # paramiko tells a broken connection as a refusal too. A server hangs up after enough wrong keys.
                if not transport.is_active() and refused is None:
                    raise EOFError("the connection broke while logging in") from error
                refused = error
            if not transport.is_active():
                break
        if refused is None:
            raise KeyUnusable("there is no key to offer: none in ~/.ssh and none in the agent")
        raise LoginRefused(_said(refused)) from refused

    def _keys(self) -> Iterator[tuple[paramiko.PKey, Path | None]]:
        if self.host.key is not None:
            yield _load(self.host.key), self.host.key
            return
        for name in _DEFAULT_KEYS:
            path = Path(self._env.get("HOME") or Path.home()) / ".ssh" / name
            with suppress(KeyUnusable):
                yield _load(path), path
        with suppress(paramiko.SSHException, OSError):
            yield from ((key, None) for key in paramiko.Agent().get_keys())

    def _exchange(self, channel: paramiko.Channel, command: str, request: Json, seconds: float) -> Json:
        script = files("providers").joinpath("host.py").read_bytes()
        question = json.dumps({**request, "root": self.host.directory}).encode()
        watchdog = _Watchdog(seconds, channel.get_transport())
        try:
            channel.exec_command(_command_line(self.host.python, len(script), command))
            with suppress(OSError):  # of one that ends before it has read all, what it says counts, and its exit code
                channel.sendall(script + question)
                channel.shutdown_write()
            stdout, stderr = _drained(channel)
            # The exit code may come after the end of the output; the watchdog's end of the connection sets it too.
            channel.status_event.wait(seconds)
        except (paramiko.SSHException, OSError, EOFError) as error:
            if watchdog.barked:
                raise TimeoutError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            watchdog.cancel()
            channel.close()
        if watchdog.barked:
            raise TimeoutError(f"no answer within {seconds:g} s")
        if channel.exit_status < 0:
            raise EOFError("the connection broke")
        return _answer(channel.exit_status, stdout, stderr)


def translate(error: Exception, host: Host) -> ProviderError:
    """The one place where paramiko's errors and the operating system's become ours."""
    called = _called(host)
    if isinstance(error, HostKeyChanged):
        text = (
            f"{called} shows another host key than the one known for it. If it was really installed anew, "
            f"{'change host_key in hosts.toml' if host.host_keys else f'remove {host.name} from hosts_seen.json'}; "
            "otherwise somebody is in between"
        )
        return AuthFailed(text, provider="ssh")
    if isinstance(error, (LoginRefused, paramiko.AuthenticationException)):
        what_to_do = "add its public half to ~/.ssh/authorized_keys there, or set `key` in hosts.toml"
        text = f"{called} does not let our key in: {what_to_do}"
        return AuthFailed(text, provider="ssh")
    if isinstance(error, KeyUnusable):
        return AuthFailed(f"{called}: {error}", provider="ssh")
    if isinstance(error, NoSense):
        return BadHost(f"{called}: {_no_sense(error, host)}", provider="ssh")
    if isinstance(error, IncompatiblePeer):
        return BadHost(f"{called} has no encryption in common with us: {_said(error)}", provider="ssh")
    if isinstance(error, paramiko.ChannelException):
        return Throttled(f"{called} opens no more sessions: {_said(error)}", after=2.0, provider="ssh")
    return Unreachable(f"{called} cannot be reached: {_said(error)}", provider="ssh")


class _Watchdog:
    """Ends the connection when time is up: the one thing that every waiting call of paramiko notices."""

    def __init__(self, seconds: float, transport: paramiko.Transport) -> None:
        self.barked = False
        self._transport = transport
        self._timer = threading.Timer(seconds, self._bark)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()

    def _bark(self) -> None:
        self.barked = True
        _close(self._transport)


def _command_line(python: str, script_bytes: int, command: str) -> str:
    """Works in any login shell: the script itself goes over stdin, before the question."""
    home, program = ("~/", python[2:]) if python.startswith("~/") else ("", python)
    source = f'import sys;exec(compile(sys.stdin.buffer.read({script_bytes}),"host.py","exec"))'
    return f"{home}{shlex.quote(program)} -c {shlex.quote(source)} {command}"


def _drained(channel: paramiko.Channel) -> tuple[bytes, bytes]:
    errors: list[bytes] = []
    beside = threading.Thread(target=lambda: errors.append(_all(channel.recv_stderr)), daemon=True)
    beside.start()
    output = _all(channel.recv)
    beside.join()
    return output, errors[0]


def _all(receive: Callable[[int], bytes]) -> bytes:
    kept = bytearray()
    while chunk := receive(65536):
        kept += chunk[: _ANSWER_BYTES - len(kept)]
    return bytes(kept)


def _answer(exit_code: int, stdout: bytes, stderr: bytes) -> Json:
    """The last line: what the login shell's files print comes before it."""
    lines = stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if exit_code == 0 and lines else None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise NoSense(exit_code, stderr.decode("utf-8", "replace").strip()[-300:] or "\n".join(lines)[-300:])
    return answer


def _no_sense(error: NoSense, host: Host) -> str:
    if error.exit_code in _NO_PROGRAM:
        return f"there is no {host.python}: install Python 3.8 or newer there, or set `python` in hosts.toml"
    return f"{host.python} there ended with exit code {error.exit_code}: {error}"


def _load(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(str(path))
    except FileNotFoundError:
        raise KeyUnusable(f"there is no key {path}") from None
    except (paramiko.PasswordRequiredException, TypeError):
        raise KeyUnusable(f"the key {path} needs a passphrase: load it into ssh-agent and name no key") from None
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        raise KeyUnusable(f"{path} is not a private key that can be used") from None


def _called(host: Host) -> str:
    return f"{host.name} ({host.user}@{host.host}:{host.port})"


def _said(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _close(transport: paramiko.Transport) -> None:
    with suppress(paramiko.SSHException, EOFError, OSError):
        transport.close()
