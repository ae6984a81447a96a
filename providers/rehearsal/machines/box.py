"""The first process of a machine that is a process tree: an SSH server, and the command that the machine runs.

Started by process.py with its orders on stdin. It ends, and all of the machine with it, when that command ends, when it
gets TERM (a shutdown from inside), or when stdin closes: whoever made the machine is gone. Unix only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from providers.rehearsal.machines import marks

_WINDOW = 16 * 1024 * 1024
_PACKET = 256 * 1024
_BLOCK = 256 * 1024
_LINGER_SECONDS = 0.5  # without output, when something in the background holds the pipes


_Process = asyncssh.SSHServerProcess[bytes]


@dataclass(frozen=True)
class Orders:
    """What a machine is: JSON on stdin, one line."""

    home: str
    user: str
    env: dict[str, str]
    host_key: str
    authorized_keys: str
    command: list[str]  # [] for a machine that only waits


class _Door(asyncssh.SSHServer):
    """Lets the machine's one user in, by key."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        assert self._connection is not None
        keys = self._keys() if username == self._orders.user else ""
        self._connection.set_authorized_keys(asyncssh.import_authorized_keys(keys))
        return True

    def _keys(self) -> str:
        """What the cloud put in, and what the machine's own start script has added: read anew, as sshd does."""
        try:
            added = Path(self._orders.home, ".ssh/authorized_keys").read_text()
        except OSError:
            added = ""
        return f"{self._orders.authorized_keys}\n{added}"

    def public_key_auth_supported(self) -> bool:
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        return True  # forwarding, as of any sshd


class Box:
    """The machine from inside."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._commands: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until the machine is over; its exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, 0)
        loop.add_reader(sys.stdin.fileno(), self._orphaned)
        server = await asyncssh.create_server(
            lambda: _Door(self._orders),
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.import_private_key(self._orders.host_key)],
            process_factory=self._serve,
            sftp_factory=True,
            allow_scp=True,
            encoding=None,
            line_editor=False,
            window=_WINDOW,
            max_pktsize=_PACKET,
            encryption_algs=["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr"],
            compression_algs=["none"],
            agent_forwarding=False,
        )
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        main = asyncio.create_task(self._main()) if self._orders.command else None
        code = await self._over
        server.close()
        if main is not None:
            main.cancel()
        return code

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)

    def _orphaned(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._end(0)

    async def _main(self) -> None:
        """What the cloud was told to start; when it ends, the machine is over."""
        with open(os.path.join(self._orders.home, ".output"), "ab") as output:  # noqa: PTH118, PTH123
            try:
                child = await asyncio.create_subprocess_exec(
                    *self._orders.command,
                    stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                    env=self._orders.env, cwd=self._orders.home, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                output.write(f"{error}\n".encode())
                self._end(127)
                return
        code = await child.wait()
        self._end(code if code >= 0 else 128 - code)

    async def _serve(self, process: _Process) -> None:
        command = process.command
        argv = ["/bin/sh", "-c", command] if command else ["/bin/sh", "-l"]
        env = {**self._orders.env, **{name: str(value) for name, value in process.env.items()}}
        try:
            if process.get_terminal_type():
                await self._in_terminal(process, argv, {**env, "TERM": str(process.get_terminal_type())})
            else:
                await self._in_pipes(process, argv, env)
        except (OSError, asyncssh.Error):
            process.exit(255)

    async def _in_pipes(self, process: _Process, argv: list[str], env: dict[str, str]) -> None:
        pipe = asyncio.subprocess.PIPE
        child = await self._spawn(argv, env, stdin=pipe, stdout=pipe, stderr=pipe)
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        feed = asyncio.create_task(_feed(process.stdin, child.stdin))
        outputs = [_Output(child.stdout, process.stdout), _Output(child.stderr, process.stderr)]
        await _serve_until_end(process, child, feed, outputs)

    async def _in_terminal(self, process: _Process, argv: list[str], env: dict[str, str]) -> None:
        master, slave = pty.openpty()
        columns, rows, width, height = process.get_terminal_size()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))
        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        child = await self._spawn(argv, env, preexec_fn=_take_terminal, **ends)
        os.close(slave)
        reader = asyncio.StreamReader(limit=_BLOCK)
        terminal = os.fdopen(master, "r+b", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), terminal)
        typing = asyncio.create_task(_type(process, terminal.fileno()))
        await _serve_until_end(process, child, typing, [_Output(reader, process.stdout)])

    async def _spawn(self, argv: list[str], env: dict[str, str], **ends: Any) -> _Child:
        loop = asyncio.get_running_loop()
        home = self._orders.home
        _, child = await loop.subprocess_exec(
            lambda: _Child(_BLOCK, loop), *argv, env=env, cwd=home, start_new_session=True, **ends
        )
        return child


class _Child(asyncio.subprocess.SubprocessStreamProtocol):
    """A command. Its end is known at once, not only when nobody holds its pipes any more, as asyncio's own has it."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=limit, loop=loop)
        self.code: asyncio.Future[int] = loop.create_future()
        self._transport_of_mine: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport_of_mine = transport
        super().connection_made(transport)

    def process_exited(self) -> None:
        super().process_exited()
        assert self._transport_of_mine is not None
        if not self.code.done():
            self.code.set_result(self._transport_of_mine.get_returncode() or 0)

    def close(self) -> None:
        assert self._transport_of_mine is not None
        if self.code.done():
            self._transport_of_mine.close()


class _Output:
    """One stream of a command on its way to the client. `moved` grows; `waits` while the client takes its time."""

    def __init__(self, source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
        self.moved = 0
        self.waits = False
        self.task = asyncio.create_task(self._pump(source, target))

    async def _pump(self, source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while chunk := await source.read(_BLOCK):
                self.moved += len(chunk)
                target.write(chunk)
                self.waits = True
                await target.drain()
                self.waits = False


async def _serve_until_end(process: _Process, child: _Child, feed: asyncio.Task[None], outputs: list[_Output]) -> None:
    """The command's end, and all its output; not what something in the background may say later."""
    code = await child.code
    while left := [output for output in outputs if not output.task.done()]:
        before = sum(output.moved for output in outputs)
        await asyncio.wait([output.task for output in left], timeout=_LINGER_SECONDS)
        if before == sum(output.moved for output in outputs) and not any(output.waits for output in left):
            break
    for task in (feed, *(output.task for output in outputs)):
        task.cancel()
    child.close()
    if code >= 0:
        process.exit(code)
    else:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    """Input that nobody reads any more is thrown away, or the client would never come to its end."""
    with contextlib.suppress(asyncssh.Error):
        while chunk := await source.read(_BLOCK):
            if target.is_closing():
                continue
            with contextlib.suppress(OSError):
                target.write(chunk)
                await target.drain()
    target.close()


async def _type(process: _Process, terminal: int) -> None:
    """What a person types; also that the window has another size now."""
    while True:
        try:
            typed = await process.stdin.read(_BLOCK)
        except asyncssh.TerminalSizeChanged as now:
            size = struct.pack("HHHH", now.height, now.width, now.pixwidth, now.pixheight)
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
            continue
        except (asyncssh.Error, asyncssh.BreakReceived, asyncssh.SignalReceived):
            continue
        if not typed:
            return
        os.write(terminal, typed)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def main() -> int:
    orders = Orders(**json.loads(sys.stdin.readline()))
    os.chdir(orders.home)
    os.set_blocking(sys.stdin.fileno(), True)

    async def live() -> int:
        return await Box(orders).run()

    code = asyncio.run(live())
    marks.end_all(orders.home)
    return code


if __name__ == "__main__":
    os._exit(main())  # what asyncssh still waits for is over
