"""SSH's own bad days: connections that break, hang or were never ours."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from jobs.transport import keys
from jobs.transport.base import AccessRefused, ByteRange, TransportError
from jobs.transport.ssh import SshTransport
from tests.jobs.transport.conftest import Connect
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.sshd]

MIB = 1024 * 1024


def alive(transport: SshTransport) -> bool:
    return transport.run(["echo", "alive"], timeout=10).stdout == b"alive\n"


def test_the_connection_is_kept_between_commands(sshd: Sshd, connect: Connect) -> None:
    transport = connect(sshd)
    ports = {transport.run(["sh", "-c", 'echo "$SSH_CONNECTION"'], timeout=10).stdout for _ in range(3)}
    assert len(ports) == 1


def test_a_cut_connection_fails_one_call_and_is_made_again(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    with (
        transport.receive(["sh", "-c", "echo first; cat /dev/zero"], timeout=10) as chunks,
        pytest.raises(TransportError, match="connection broke"),
    ):
        assert next(chunks).startswith(b"first\n")
        own_sshd.cut()
        for _ in chunks:
            pass
    assert alive(transport)


def test_a_cut_between_two_calls_is_not_noticed(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    assert alive(transport)
    own_sshd.cut()
    time.sleep(0.5)
    assert alive(transport)


@pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.03])
def test_a_cut_while_sending_is_an_error(own_sshd: Sshd, connect: Connect, after: float) -> None:
    transport = connect(own_sshd)
    assert alive(transport)

    def chunks() -> Iterator[bytes]:
        yield bytes(MIB)
        time.sleep(after)
        own_sshd.cut()
        while True:
            yield bytes(MIB)

    with pytest.raises(TransportError):
        transport.send(["sh", "-c", "cat >/dev/null"], chunks(), timeout=10)
    assert alive(transport)


def test_a_server_that_is_down_and_comes_back(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    assert alive(transport)
    own_sshd.stop()
    for _ in range(2):
        with pytest.raises(TransportError):
            transport.run(["true"], timeout=5)
    own_sshd.start()
    assert alive(transport)


class TestHung:
    """The kernel of a hung machine still answers; every call must end in its time all the same."""

    @pytest.mark.parametrize("call", ["run", "read", "send", "receive"])
    @pytest.mark.parametrize("warm", [True, False])
    def test_every_call_ends_in_time(self, own_sshd: Sshd, connect: Connect, call: str, warm: bool) -> None:
        transport = connect(own_sshd)
        if warm:
            assert alive(transport)
        own_sshd.hang()
        began = time.monotonic()
        with pytest.raises(TransportError):
            self.use(transport, call)
        assert time.monotonic() - began < 1 + 2.5
        own_sshd.resume()
        assert alive(transport)

    def test_time_that_is_up_is_no_broken_connection(
        self, own_sshd: Sshd, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when the connection is ended for it just as what was sent is taken after all."""

        def taken_too_late(channel: paramiko.Channel, piece: bytes) -> int:
            eventually(lambda: channel.closed)
            return len(piece)

        monkeypatch.setattr(paramiko.Channel, "send", taken_too_late)
        with pytest.raises(TransportError, match="no answer within 1 s"):
            connect(own_sshd).send(["sleep", "60"], [b"some"], timeout=1)

    @pytest.mark.parametrize("direction", ["in", "out"])
    def test_in_the_middle_of_a_stream(self, own_sshd: Sshd, connect: Connect, direction: str) -> None:
        transport = connect(own_sshd)

        def chunks() -> Iterator[bytes]:
            yield bytes(MIB)
            own_sshd.hang()
            while True:
                yield bytes(MIB)

        began = time.monotonic()
        with pytest.raises(TransportError):
            if direction == "in":
                transport.send(["sh", "-c", "cat >/dev/null"], chunks(), timeout=1)
            else:
                with transport.receive(["cat", "/dev/zero"], timeout=1) as out:
                    next(out)
                    own_sshd.hang()
                    for _ in out:
                        pass
        assert time.monotonic() - began < 5
        own_sshd.resume()
        assert alive(transport)

    @staticmethod
    def use(transport: SshTransport, call: str) -> None:
        if call == "run":
            transport.run(["true"], timeout=1)
        elif call == "read":
            transport.read([ByteRange("/etc/passwd", 0, 10)], timeout=1)
        elif call == "send":
            transport.send(["sh", "-c", "cat >/dev/null"], (bytes(MIB) for _ in range(100)), timeout=1)
        else:
            with transport.receive(["true"], timeout=1) as chunks:
                list(chunks)


def test_close_from_another_thread_ends_a_call(own_sshd: Sshd, connect: Connect) -> None:
    transport = connect(own_sshd)
    assert alive(transport)
    threading.Timer(0.3, transport.close).start()
    with pytest.raises(TransportError):
        transport.run(["sleep", "60"], timeout=30)


class TestHostKeys:
    def test_the_first_key_seen_is_pinned_for_the_instance(
        self, own_sshd: Sshd, connect: Connect, tmp_path: Path
    ) -> None:
        assert alive(connect(own_sshd))
        assert json.loads((tmp_path / "known_hosts.json").read_text()) == {"i-1": [own_sshd.host_key]}

    def test_another_machine_at_the_address_is_refused(self, own_sshd: Sshd, connect: Connect) -> None:
        transport = connect(own_sshd)
        assert alive(transport)
        own_sshd.new_host_key()
        for again in (transport, connect(own_sshd)):
            with pytest.raises(AccessRefused, match=r"another host key than the one known for i-1.*ssh-ed25519"):
                again.run(["true"], timeout=10)

    def test_the_address_may_be_given_to_another_instance(self, own_sshd: Sshd, connect: Connect) -> None:
        assert alive(connect(own_sshd))
        own_sshd.new_host_key()
        assert alive(connect(own_sshd, instance="i-2"))

    def test_a_given_key_is_the_only_one_accepted(self, own_sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
        assert alive(connect(own_sshd, host_keys=[own_sshd.host_key + " comment"]))
        other = keys.ensure(tmp_path / "other")
        with pytest.raises(AccessRefused, match="another host key"):
            connect(own_sshd, host_keys=[other]).run(["true"], timeout=10)
        assert not (tmp_path / "known_hosts.json").exists()

    def test_a_key_is_not_pinned_by_a_machine_that_does_not_let_us_in(
        self, own_sshd: Sshd, connect: Connect, tmp_path: Path
    ) -> None:
        keys.ensure(tmp_path / "stranger")
        with pytest.raises(AccessRefused):
            connect(own_sshd, key_path=tmp_path / "stranger").run(["true"], timeout=10)
        assert not (tmp_path / "known_hosts.json").exists()

    def test_nothing_is_trusted_when_the_file_is_damaged(
        self, own_sshd: Sshd, connect: Connect, tmp_path: Path
    ) -> None:
        (tmp_path / "known_hosts.json").write_text('{"i-1": [')
        with pytest.raises(AccessRefused, match=r"known_hosts\.json"):
            connect(own_sshd).run(["true"], timeout=10)


class TestOurKey:
    def test_only_the_given_key_is_offered(
        self, own_sshd: Sshd, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A default key that the server would let in must not be used for a machine of a cloud."""
        home = tmp_path / "home"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh" / "id_ed25519").write_bytes(own_sshd.key_path.read_bytes())
        monkeypatch.setenv("HOME", str(home))
        keys.ensure(tmp_path / "stranger")
        with pytest.raises(AccessRefused, match="does not let our key in"):
            connect(own_sshd, key_path=tmp_path / "stranger").run(["true"], timeout=10)
        assert alive(connect(own_sshd, key_path=None))

    def test_no_key_at_all(
        self, own_sshd: Sshd, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with pytest.raises(AccessRefused, match="no key to offer"):
            connect(own_sshd, key_path=None).run(["true"], timeout=10)

    @pytest.mark.parametrize("content", [None, "", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nsecretsecret\n"])
    def test_an_unusable_key_file_is_named_and_not_quoted(
        self, own_sshd: Sshd, connect: Connect, tmp_path: Path, content: str | None
    ) -> None:
        if content is not None:
            (tmp_path / "bad").write_text(content)
        with pytest.raises(AccessRefused, match=str(tmp_path / "bad")) as caught:
            connect(own_sshd, key_path=tmp_path / "bad").run(["true"], timeout=10)
        assert "secretsecret" not in str(caught.value)

    def test_an_unknown_user_is_refused(self, own_sshd: Sshd, connect: Connect) -> None:
        with pytest.raises(AccessRefused):
            connect(own_sshd, user="no-such-user").run(["true"], timeout=10)


class TestNoServer:
    @pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 5000])
    def test_something_else_answers(
        self, connect: Connect, tmp_path: Path, greeting: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A port forwarder accepts before the machine's server is up, and then closes."""
        with listening(greeting) as port, caplog.at_level(logging.DEBUG):
            server = Sshd(tmp_path, port)
            keys.ensure(server.key_path)
            with pytest.raises(TransportError, match="no SSH server answers") as caught:
                connect(server).run(["true"], timeout=5)
        assert not isinstance(caught.value, AccessRefused)
        assert not [record for record in caplog.records if record.name.startswith("paramiko")]

    def test_a_server_that_says_nothing(self, connect: Connect, tmp_path: Path) -> None:
        with listening(None) as port:
            server = Sshd(tmp_path, port)
            keys.ensure(server.key_path)
            began = time.monotonic()
            with pytest.raises(TransportError):
                connect(server).run(["true"], timeout=1)
        assert time.monotonic() - began < 3

    def test_a_name_that_does_not_exist(self, connect: Connect, tmp_path: Path) -> None:
        server = Sshd(tmp_path, 22, host="no-such-host.invalid")
        with pytest.raises(TransportError, match="cannot reach"):
            connect(server).run(["true"], timeout=10)


def test_what_a_login_shell_prints_is_not_taken_for_an_answer(own_sshd: Sshd, connect: Connect) -> None:
    """A .bashrc that greets breaks scp and much else; ours is told where the command's own output begins."""
    config = own_sshd.folder / "sshd_config"
    own_sshd.stop()
    wrapper = own_sshd.folder / "shell"
    wrapper.write_text('#!/bin/sh\necho Welcome to the machine\neval "$SSH_ORIGINAL_COMMAND"\n')
    wrapper.chmod(0o755)
    own_sshd.more = f"ForceCommand {wrapper}"
    own_sshd.start()
    assert "ForceCommand" in config.read_text()
    transport = connect(own_sshd)
    assert transport.run(["echo", "answer"], timeout=10).stdout == b"answer\n"
    assert transport.read([ByteRange("/no/such/file", 0, 10)], timeout=10) == [None]


def test_no_file_descriptor_or_thread_is_left(own_sshd: Sshd, connect: Connect, tmp_path: Path) -> None:
    transport = connect(own_sshd)
    assert alive(transport)

    def open_files() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    def new_threads() -> list[str]:
        return [one.name for one in threading.enumerate() if one not in before and "pytest" not in one.name]

    time.sleep(0.5)  # what tests before this one began may end meanwhile
    before, files = threading.enumerate(), open_files()
    for _ in range(5):
        transport.read([ByteRange("/etc/passwd", 0, 10)], timeout=10)
        with transport.receive(["cat", "/dev/zero"], timeout=10) as chunks:
            next(chunks)
    eventually(lambda: not new_threads() and open_files() <= files, 2, lambda: f"{new_threads()}, {open_files()}")
    transport.close()


class listening:
    """A server that greets and closes, or, with None, never says a word."""

    def __init__(self, greeting: bytes | None) -> None:
        self._greeting = greeting
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._accepted:
            connection.close()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                self._accepted.append(connection)
                if self._greeting is not None:
                    connection.sendall(self._greeting)
                    connection.close()
        except OSError:
            return
