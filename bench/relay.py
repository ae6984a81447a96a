"""A TCP relay on loopback that delays every byte by the same time each way, as a long line does.

Run as a process of its own, so that it takes no time of what is measured: `python -m bench.relay PORT SECONDS` prints
its own port.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

_BLOCK = 256 * 1024
_IN_FLIGHT = 64 * 1024 * 1024


async def _serve(target: int, seconds: float) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target, limit=_BLOCK)
        await asyncio.gather(_carry(reader, there_writer, seconds), _carry(there_reader, writer, seconds))

    server = await asyncio.start_server(one, "127.0.0.1", 0, limit=_BLOCK)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float) -> None:
    """Read at once, write when a byte has been under way for long enough."""
    clock = asyncio.get_running_loop().time
    waiting: deque[tuple[float, bytes]] = deque()
    arrived, room, size = asyncio.Event(), asyncio.Event(), 0

    async def deliver() -> None:
        nonlocal size
        while True:
            while not waiting:
                arrived.clear()
                await arrived.wait()
            due, block = waiting.popleft()
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            if not block:
                target.close()
                return
            target.write(block)
            await target.drain()
            size -= len(block)
            room.set()

    delivering = asyncio.create_task(deliver())
    try:
        while block := await source.read(_BLOCK):
            waiting.append((clock() + seconds, block))
            size += len(block)
            arrived.set()
            while size > _IN_FLIGHT:
                room.clear()
                await room.wait()
    except ConnectionError:
        pass
    waiting.append((clock() + seconds, b""))
    arrived.set()
    try:
        await delivering
    except ConnectionError:
        pass


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
