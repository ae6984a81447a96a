"""SshTransport: a machine behind an SSH server, over one warm connection that is made again after it broke.

Owns everything that touches paramiko. Every call ends in time although paramiko's own calls may wait for ever, host
keys are pinned per instance, and only the given key is offered. Errors name the machine and never hold key material.
"""

from __future__ import annotations

import logging
import re
import select
import shlex
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko

from jobs.transport.base import AccessRefused, ByteRange, TransportError
from jobs.transport.exchange import CommandTransport, Feed, Patience, Running, Stream, name_of
from jobs.transport.known_hosts import KnownHosts, KnownHostsDamaged
from jobs.transport.ranges import Question

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # it prints tracebacks where we raise

_CONNECT_SECONDS = 20.0
_KEEPALIVE_SECONDS = 30
_WINDOW = 16 * 1024 * 1024
_PACKET = 256 * 1024
_PIECE = 32 * 1024
_TICK = 0.1  # paramiko's pipe for poll() may lose a wake-up when both streams bring data at once
_FULL = 0.05
_LINGER = 1.0  # for a command that ended while something in its background holds the pipes
_END_SECONDS = 2.0
_PREAMBLE = 64 * 1024

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")

# Says where a command's own output begins, whatever the login shell's files print before, and which process to kill.
_START = r"""printf '\036gpujob %s\n' "$$"; exec "$@" """
_START_WITHOUT_INPUT = f"{_START}</dev/null"
_STARTED = re.compile(rb"\x1egpujob ([0-9]{1,10})\n")
_KILL = 'kill -s KILL -- "-$1" 2>/dev/null || kill -s KILL "$1"'


class SshTransport(CommandTransport):
    """Implements Transport.

    With `key_path` None the user's agent and default keys are offered: for machines of one's own.
    """

    def __init__(
        self,
        host: str,
        port: int,
        user: str,
        key_path: Path | None,
        *,
        host_keys: Sequence[str] = (),
        known_hosts: Path,
        instance: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._address = (host, port)
        self._user = user
        self._key_path = key_path
        self._host_keys = tuple(" ".join(key.split()[:2]) for key in host_keys)
        self._known_hosts = KnownHosts(known_hosts)
        self._instance = instance
        self._env = [f"{name}={value}" for name, value in (env or {}).items()]
        self._client: paramiko.Transport | None = None

    def read(self, ranges: Sequence[ByteRange], *, timeout: float) -> list[bytes | None]:
        question = Question(ranges)
        done = self._complete(question.argv, (), self._patience(timeout, renews=False), limit=question.bound)
        try:
            return question.answer(done)
        except ValueError as error:
            raise TransportError(f"{self} did not read its files: {error}") from error

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            _close(client)

    def __str__(self) -> str:
        return f"{self._user}@{self._address[0]}:{self._address[1]}"

    def _open(self, argv: Sequence[str], chunks: Iterable[bytes], patience: Patience) -> Running:
        client = self._connected(patience)
        prefix = ["env", *self._env] if self._env else []
        start = _START_WITHOUT_INPUT if chunks == () else _START
        command = shlex.join(["sh", "-c", start, "gpujob", *prefix, *argv])
        return _Command(client, command, f"{name_of(argv)} on {self}", chunks, patience)

    def _connected(self, patience: Patience) -> paramiko.Transport:
        client = self._client
        if client is None or not client.is_active():
            self.close()
            seconds = min(_CONNECT_SECONDS, patience.left())
            client = self._client = self._connect(Patience(seconds, renews=False))
        return client

    def _connect(self, patience: Patience) -> paramiko.Transport:
        try:
            connection = socket.create_connection(self._address, timeout=patience.left())
        except OSError as error:
            raise TransportError(f"cannot reach {self}: {error.strerror or error}") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # paramiko does not: 46 ms a command
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client = paramiko.Transport(connection)
        try:
            self._agree(client, patience)
        except BaseException:
            _close(client)
            connection.close()
            raise
        return client

    def _agree(self, client: paramiko.Transport, patience: Patience) -> None:
        """Encryption, then whether this is the right machine, then whether we are let in."""
        expected = self._expected()
        self._negotiate(client, expected, patience)
        server = client.get_remote_server_key()
        key = f"{server.get_name()} {server.get_base64()}"
        self._check(key, expected)
        _authenticate(client, self._user, _keys(self._key_path), f"{self}", patience)
        if not expected:
            # Only now: an address that was another's a moment ago would have been pinned for ours.
            self._check(key, self._known_hosts.pin(self._instance, key))
        client.set_keepalive(_KEEPALIVE_SECONDS)

    def _expected(self) -> tuple[str, ...]:
        try:
            return self._host_keys or self._known_hosts.of(self._instance)
        except KnownHostsDamaged as error:
            raise AccessRefused(str(error)) from error

    def _negotiate(self, client: paramiko.Transport, expected: Sequence[str], patience: Patience) -> None:
        client.banner_timeout = client.handshake_timeout = patience.left()
        options = client.get_security_options()
        options.ciphers = tuple(name for name in _CIPHERS if name in options.ciphers)
        kinds = [key.split()[0] for key in expected]
        options.key_types = tuple(sorted(options.key_types, key=lambda kind: not _same_kind(kind, kinds)))
        try:
            client.start_client(timeout=max(patience.left(), 0))
            client.get_remote_server_key()
        except (paramiko.SSHException, EOFError, OSError) as error:
            why = str(error) or type(error).__name__
            raise TransportError(f"no SSH server answers at {self} (yet): {why}") from error

    def _check(self, key: str, expected: Sequence[str]) -> None:
        if expected and key not in expected:
            raise AccessRefused(
                f"{self} shows another host key than the one known for {self._instance}: {key}, not "
                f"{' or '.join(expected)}. Another machine answers at this address, or somebody is in between"
            )


class _Command:
    """A command on a channel of its own."""

    def __init__(
        self, client: paramiko.Transport, command: str, name: str, chunks: Iterable[bytes], patience: Patience
    ) -> None:
        self._client = client
        self._name = name
        self._patience = patience
        self._feed = Feed(chunks, _PIECE)
        self._fed = chunks == ()
        self._pid: int | None = None
        self._over = False
        self._watch = _Watchdog(client, name)
        try:
            with self._watch.calling(patience):
                seconds = max(patience.left(), 0.01)
                self._channel = client.open_session(window_size=_WINDOW, max_packet_size=_PACKET, timeout=seconds)
                self._channel.settimeout(_FULL)
                self._channel.exec_command(command)
        except TransportError:
            self._watch.stop()
            _close(client)
            raise

    def events(self) -> Iterator[tuple[Stream, bytes]]:
        preamble = b""
        for stream, chunk in self._events():
            if stream is Stream.STDERR or self._pid is not None:
                yield stream, chunk
                continue
            preamble += chunk
            if started := _STARTED.search(preamble):
                self._pid = int(started[1])
                if rest := preamble[started.end() :]:
                    yield stream, rest
            elif len(preamble) > _PREAMBLE:
                raise TransportError(f"{self._name}: its login shell prints without end")
        if self._pid is None:
            yield Stream.STDERR, preamble

    def exit_code(self) -> int:
        channel = self._channel
        if channel.exit_status >= 0:
            return channel.exit_status
        # paramiko does not tell a signal's end from a broken connection: the second takes the client's thread with it.
        self._client.join(0.3)
        if channel.eof_received and self._client.is_alive():
            return -1
        raise self._watch.broken(self._patience, EOFError())

    def end(self) -> None:
        self._watch.stop()
        if self._client.is_active() and not self._over:
            self._kill()
        if self._client.is_active():
            with suppress(paramiko.SSHException, EOFError, OSError):
                self._channel.close()

    def _events(self) -> Iterator[tuple[Stream, bytes]]:
        channel = self._channel
        waiting = select.poll()
        waiting.register(channel.fileno(), select.POLLIN)
        silent_since = time.monotonic()
        while True:
            over = channel.closed or (channel.eof_received and channel.status_event.is_set())
            moved = False
            for stream, chunk in self._arrived():
                moved = True
                yield stream, chunk
                self._patience.progressed()  # the caller's own time does not count
                self._patience.check(self._name)  # here, too: more may come than is ever taken away
            if over:
                break
            moved = self._write() or moved
            if moved:
                silent_since = time.monotonic()
            elif channel.status_event.is_set() and time.monotonic() - silent_since > _LINGER:
                break
            else:
                self._wait(waiting)
            self._patience.check(self._name)
        self._over = True

    def _arrived(self) -> Iterator[tuple[Stream, bytes]]:
        channel = self._channel
        while channel.recv_ready():
            with self._watch.calling(self._patience):
                chunk = channel.recv(_WINDOW)
            yield Stream.STDOUT, chunk
        while channel.recv_stderr_ready():
            with self._watch.calling(self._patience):
                chunk = channel.recv_stderr(_WINDOW)
            yield Stream.STDERR, chunk

    def _wait(self, waiting: select.poll) -> None:
        if not self._fed:
            return  # the write has waited for room, and poll() does not tell of any
        seconds = max(min(_TICK, self._patience.left()), 0)
        if self._channel.eof_received:
            self._channel.status_event.wait(seconds)  # from now on poll() always says that there is something
        else:
            waiting.poll(seconds * 1000)

    def _write(self) -> bool:
        """Give the command some of its input; False when nothing could be given."""
        piece = self._feed.next()
        if piece is None:
            self._close_input()
            return False
        try:
            with self._watch.calling(self._patience):
                count = self._send(bytes(piece))
        except TransportError:
            if not self._client.is_active():
                raise
            count = 0  # the channel was closed: the command has ended, and that is what the caller will hear
            self._feed.abandon()
        self._feed.wrote(count)
        if count:
            self._patience.progressed()
        return count > 0

    def _send(self, piece: bytes) -> int:
        try:
            return self._channel.send(piece)
        except TimeoutError:
            return 0  # the window is full

    def _close_input(self) -> None:
        if self._fed or self._channel.closed:
            return
        self._fed = True
        with self._watch.calling(self._patience):
            self._channel.shutdown_write()

    def _kill(self) -> None:
        """End what was left before its end: closing a channel does not.

        A connection that cannot even do this is given up.
        """
        if self._pid is None:
            _close(self._client)
            return
        command = shlex.join(["sh", "-c", _KILL, "kill", str(self._pid)])
        patience = Patience(_END_SECONDS, renews=False)
        watch = _Watchdog(self._client, self._name)
        try:
            with watch.calling(patience):
                channel = self._client.open_session(timeout=_END_SECONDS)
                channel.exec_command(command)
            if not channel.status_event.wait(max(patience.left(), 0)):
                _close(self._client)
            channel.close()
        except (TransportError, OSError, EOFError):
            _close(self._client)
        finally:
            watch.stop()


class _Watchdog:
    """Closes the connection when a call of paramiko's outlasts the patience: on a hung machine it waits for ever."""

    def __init__(self, client: paramiko.Transport, name: str) -> None:
        self._client = client
        self._name = name
        self._patience: Patience | None = None
        self._stopped = threading.Event()
        self._late = False
        threading.Thread(target=self._look, name="ssh-watchdog", daemon=True).start()

    @contextmanager
    def calling(self, patience: Patience) -> Iterator[None]:
        """Around calls of paramiko. Its errors become TransportError here."""
        self._patience = patience
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self.broken(patience, error) from error
        finally:
            self._patience = None

    def broken(self, patience: Patience, error: Exception) -> TransportError:
        """Why there is no connection any more: time was up, or what paramiko says."""
        if self._late or patience.left() <= 0:  # paramiko's own limit may be the first to be passed
            return TransportError(f"{self._name}: no answer within {patience.seconds:g} s")
        return TransportError(f"{self._name}: {str(error) or 'the connection broke'}")

    def stop(self) -> None:
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(0.1):
            patience = self._patience
            if patience is not None and patience.left() < 0:
                self._late = True
                _close(self._client)
                return


def _authenticate(
    client: paramiko.Transport, user: str, keys: Iterable[paramiko.PKey], name: str, patience: Patience
) -> None:
    refused = False
    for key in keys:
        client.auth_timeout = max(patience.left(), 0.01)
        try:
            if not client.auth_publickey(user, key):
                return
            refused = True  # it wants more than a key
        except (paramiko.SSHException, EOFError, OSError) as error:
            if patience.left() <= 0:
                raise TransportError(f"{name} did not answer to our key within {patience.seconds:g} s") from error
            if client.is_active() and isinstance(error, paramiko.AuthenticationException):
                refused = True
            elif refused:
                break
            else:
                raise TransportError(f"{name}: the connection broke while logging in") from error
    raise AccessRefused(f"{name} does not let our key in" if refused else f"no key to offer to {name}")


def _keys(path: Path | None) -> Iterator[paramiko.PKey]:
    if path is not None:
        yield _load(path)
        return
    with suppress(paramiko.SSHException, OSError):
        yield from paramiko.Agent().get_keys()
    for name in _DEFAULT_KEYS:
        with suppress(AccessRefused):
            yield _load(Path.home() / ".ssh" / name)


def _load(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(str(path))
    except FileNotFoundError:
        raise AccessRefused(f"there is no key {path}") from None
    except (paramiko.PasswordRequiredException, TypeError):
        raise AccessRefused(f"the key {path} needs a passphrase: load it into ssh-agent and name no key") from None
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        raise AccessRefused(f"{path} is not a private key that can be used") from None


def _same_kind(kind: str, kinds: Sequence[str]) -> bool:
    return kind in kinds or (kind.startswith("rsa-") and "ssh-rsa" in kinds)


def _close(client: paramiko.Transport) -> None:
    with suppress(paramiko.SSHException, EOFError, OSError):
        client.close()
