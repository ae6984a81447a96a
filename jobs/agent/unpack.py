"""gpujob's agent: puts shipped files into a machine. It is copied there beside agent.py.

Standard library only, Python 3.8 or newer, Linux and macOS. Called as `python3 DIR/unpack.py unpack DIGEST [FOLDER]`.
It stands alone because Python compiles a script anew at each call (designs/0007-files-of-the-agent.md); what several of
the agent's files need is in each, word for word. Knows no job and no cloud.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing below may cost time at run time
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, BinaryIO

    Json = dict[str, Any]

BLOCK = 1024 * 1024
PIPE_BLOCK = 256 * 1024
UNPACKING = ".unpacking-"
NO_SPACE = "no space left on the machine's disk"
RECORD = 512
FILES = (b"0", b"\0", b"7")  # the kinds of entries that are regular files
NAME_LIMIT = 1024 * 1024  # of a name or an extended header in a tar stream
KEYS = (b"path", b"linkpath", b"size", b"mtime")  # of an extended header
DIGITS = 30  # more than any number there has; a million of them would take long to read
OUT = "%r is a link out of the working directory"


class Refused(Exception):
    """A command cannot be done; the text says why."""


def main(arguments: Sequence[str]) -> int:
    name, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    command = COMMANDS.get(name)
    if command is None or len(rest) not in (1, 2):
        return _failed("not a command: %r; there are: %s" % (" ".join(arguments), " ".join(sorted(COMMANDS))))
    try:
        command(Folder(os.path.dirname(os.path.abspath(__file__))), *rest)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    except Refused as refused:
        return _failed(str(refused))
    except OSError as error:
        return _failed(NO_SPACE if is_full(error) else str(error))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _failed("%s: the request makes no sense: %s: %s" % (name, type(error).__name__, error))
    return 0


def _failed(reason: str) -> int:
    answer({"error": reason})
    sys.stderr.write("agent: %s\n" % reason)
    return 2


def answer(record: Json) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


# ---- unpack: the shipped files ---------------------------------------------------------------------------------------


def unpack(folder: Folder, digest: str, below: str = "") -> None:
    """Put a tar stream into shared/work, or into a folder of it, whole or not at all."""
    import shutil

    if os.path.isabs(below) or ".." in below.split("/"):
        raise Refused("%r does not stay in the working directory" % below)
    records = folder.load("unpacked.json") or {}
    done = records.get(below)
    work = os.path.normpath(folder.path("shared", "work", below))
    stdin = sys.stdin.buffer.raw  # type: ignore[union-attr]
    if done and done["digest"] == digest and os.path.isdir(work):
        while stdin.read(BLOCK):  # the sender must not die of a broken pipe
            pass
        answer({"files": done["files"], "bytes": done["bytes"]})
        return
    _refuse_other_files(folder)
    # Names of its own: an earlier call whose connection hangs may still be at work.
    fresh, old = (folder.path("shared", "%s%s-%d" % (UNPACKING, what, os.getpid())) for what in ("new", "old"))
    os.makedirs(fresh)
    try:
        files, size = _extract(stdin, fresh)
        _refuse_other_files(folder)
        os.makedirs(os.path.dirname(work), exist_ok=True)
        if os.path.isdir(work):
            os.rename(work, old)
        os.rename(fresh, work)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    record = {"digest": digest, "files": files, "bytes": size}
    write_record(folder.path("unpacked.json"), {**(records if below else {}), below: record})
    answer({"files": files, "bytes": size})


def _refuse_other_files(folder: Folder) -> None:
    if folder.has("state.json"):
        raise Refused("the job was started with other files")


def _extract(source: BinaryIO, root: str) -> tuple[int, int]:
    tree = Tree(os.fsencode(root))
    try:
        for member in members(gunzipped(iter(lambda: source.read(PIPE_BLOCK), b""))):
            tree.place(member)
    except TarError as error:
        raise Refused("not a whole tar stream: %s" % error) from error
    tree.refuse_links_out()
    return tree.files, tree.bytes


class Tree:
    """What is unpacked below a new directory: nothing of it is outside, and nothing is written through a link."""

    def __init__(self, root: bytes) -> None:
        self.files = self.bytes = 0
        self._root = root
        self._real = {b""}  # directories that are known to be no links: only there is written
        self._links: list[bytes] = []
        self._umask = os.umask(0)
        os.umask(self._umask)

    def place(self, member: Member) -> None:
        parts = [part for part in member.name.split(b"/") if part not in (b"", b".")]
        if member.name[:1] == b"/" or b".." in parts or b"\0" in member.name:
            raise Refused("%r does not stay in the working directory" % os.fsdecode(member.name))
        if not parts:
            return  # "." itself
        way = b"/".join(parts[:-1])
        if way not in self._real:
            self._make_way(way, parts[:-1])
        target = b"/".join((self._root, *parts))
        if member.kind == b"5":
            os.makedirs(target, exist_ok=True)
            return
        self.files += 1
        if member.kind in FILES:
            self._write(member, target)
        elif member.kind == b"2":
            self._clear(target)
            os.symlink(member.link, target)
            self._links.append(target)
        elif member.kind == b"1":
            self._clear(target)
            self._link(member, target)
        else:
            raise Refused("%r is neither a file, a directory nor a link" % os.fsdecode(member.name))

    def refuse_links_out(self) -> None:
        """Where links lead is only known when all are there: each alone may look harmless."""
        inside = os.path.realpath(self._root)
        for path in self._links:
            if not os.path.islink(path):
                continue  # a later entry took its place
            end = os.path.realpath(path)
            if os.path.isabs(os.readlink(path)) or not (end == inside or end.startswith(inside + b"/")):
                raise Refused(OUT % os.fsdecode(os.path.relpath(path, self._root)))

    def _make_way(self, way: bytes, parts: Sequence[bytes]) -> None:
        """The directories on the way, none of them a link: nothing is ever written through one, wherever it points."""
        for depth in range(1, len(parts) + 1):
            if os.path.islink(os.path.join(self._root, *parts[:depth])):
                raise Refused("%r is below a link" % (os.fsdecode(way) + "/..."))
        os.makedirs(os.path.join(self._root, way), exist_ok=True)
        self._real.add(way)

    def _clear(self, target: bytes) -> None:
        """A later entry of the same name wins, as in tar; a directory never gives way."""
        if os.path.lexists(target):
            os.unlink(target)

    def _write(self, member: Member, target: bytes) -> None:
        mode = (member.mode & 0o755) | 0o600
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            fd = os.open(target, flags, mode)
        except FileExistsError:
            self._clear(target)
            fd = os.open(target, flags, mode)
        try:
            for chunk in member.content:
                write_all(fd, chunk)
            if mode & self._umask:
                os.fchmod(fd, mode)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)
        self.bytes += member.size

    def _link(self, member: Member, target: bytes) -> None:
        first = os.path.realpath(os.path.join(self._root, member.link))
        if not first.startswith(os.path.realpath(self._root) + b"/") or not os.path.isfile(first):
            raise Refused(OUT % os.fsdecode(member.name))
        os.link(first, target)


def write_all(fd: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(fd, rest) :]


# ---- tar streams: `tarfile` is several times slower for small files, and slow to import ------------------------------


class TarError(Exception):
    """The stream is no tar archive, or ends before the archive does."""


class Member:
    """One entry of an archive. `content` is only there until the next entry is asked for."""

    __slots__ = ("content", "kind", "link", "mode", "mtime", "name", "size")

    def __init__(self, block: bytes) -> None:
        """From the 512 bytes of its header."""
        if _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 256:
            raise TarError("a header has a wrong checksum")
        self.name, self.link, self.kind = _text(block[:100]), _text(block[157:257]), block[156:157]
        self.mode, self.size, self.mtime = _octal(block[100:108]), _octal(block[124:136]), _octal(block[136:148])
        if block[257:263] == b"ustar\0" and block[345] != 0:
            self.name = _text(block[345:500]) + b"/" + self.name
        if self.kind == b"\0" and self.name[-1:] == b"/":
            self.kind = b"5"  # as programs older than the format write a directory
        if self.kind in b"123456":
            self.size = 0  # a link's size is that of what it leads to, and nothing follows
        self.content: Iterator[bytes] = iter(())

    def become(self, known: dict[bytes, bytes]) -> None:
        """Take over what the extended headers before it say."""
        self.name, self.link = known.get(b"path", self.name), known.get(b"linkpath", self.link)
        if b"size" in known:
            self.size = _decimal(known[b"size"])
        if b"mtime" in known:
            self.mtime = _decimal(known[b"mtime"].partition(b".")[0])


def members(chunks: Iterable[bytes]) -> Iterator[Member]:
    """The entries of a plain tar stream, which is read to its end. Raises TarError where it is none, or broken off."""
    stream = Stream(chunks)
    known: dict[bytes, bytes] = {}
    while True:
        block = stream.take(RECORD)
        if not block.strip(b"\0"):
            break
        member = Member(block)
        if member.kind in (b"L", b"K"):
            known[b"path" if member.kind == b"L" else b"linkpath"] = stream.take_padded(member).rstrip(b"\0")
        elif member.kind == b"x":
            # Of what there may be without end, only what is used: a stream may come from a machine of another's.
            known.update((key, value) for key, value in _extended(stream.take_padded(member)) if key in KEYS)
        elif member.kind == b"g":
            stream.take_padded(member)  # comments, as `git archive` writes them
        else:
            member.become(known)
            known = {}
            left = stream.open(member)
            yield member
            left.skip()
    stream.drain()


class Stream:
    """Chunks of bytes, taken in the pieces that are needed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._left = 0  # bytes of the entry that is being read, and then of its padding
        self._padding = 0

    def take(self, size: int) -> bytes:
        """So many bytes."""
        piece = self._rest[:size]
        self._rest = self._rest[size:]
        if len(piece) == size:
            return bytes(piece)
        parts = [piece]
        size -= len(piece)
        while size:
            parts.append(self._some(size))
            size -= len(parts[-1])
        return b"".join(parts)

    def take_padded(self, member: Member) -> bytes:
        if not 0 <= member.size <= NAME_LIMIT:
            raise TarError("a name of %d bytes" % member.size)
        return self.take(member.size + -member.size % RECORD)[: member.size]

    def open(self, member: Member) -> Stream:
        if member.size < 0:
            raise TarError("an entry of %d bytes" % member.size)
        self._left, self._padding = member.size, -member.size % RECORD
        member.content = self._content()
        return self

    def skip(self) -> None:
        """To the next entry, whether the last one's content was read or not."""
        self._left += self._padding
        self._padding = 0
        for _ in self._content():
            pass

    def drain(self) -> None:
        """To the end of the stream, where what comes after an archive's end may still say that something is wrong."""
        for _ in self._chunks:
            pass

    def _content(self) -> Iterator[bytes]:
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece  # type: ignore[misc]  # bytes or a view of them

    def _some(self, size: int) -> memoryview:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise TarError("the end is missing")
            self._rest = memoryview(chunk)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same stream without gzip around it, in bounded pieces; a gzip file may have several parts."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) > 1:
            break
    if first[:2] != b"\x1f\x8b":
        yield first
        yield from chunks
        return
    import zlib

    part = None
    try:
        for chunk in itertools.chain((first,), chunks):
            rest = chunk
            while rest:
                part = part or zlib.decompressobj(16 + zlib.MAX_WBITS)
                yield part.decompress(rest, BLOCK)
                rest = part.unused_data if part.eof else part.unconsumed_tail
                part = None if part.eof else part
    except zlib.error as error:
        raise TarError(str(error)) from error
    if part is not None:
        raise TarError("the end of the gzip file is missing")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    try:
        return int(field.replace(b"\0", b" ").strip() or b"0", 8)
    except ValueError:
        raise TarError("a header has something else where a number should be") from None


def _decimal(text: bytes) -> int:
    try:
        return int(text[:DIGITS])
    except ValueError:
        raise TarError("an extended header has something else where a number should be") from None


def _extended(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of an extended header: "LENGTH KEY=VALUE\n", again and again."""
    start = 0
    while start < len(block):
        space = block.find(b" ", start, start + DIGITS)
        end = start + _decimal(block[start:space]) if space > start else 0
        key, equals, value = block[space + 1 : max(end, 0)].partition(b"=")
        if not equals or value[-1:] != b"\n" or end > len(block):
            raise TarError("an extended header makes no sense")
        yield key, value[:-1]
        start = end


# ---- what the others have too ----------------------------------------------------------------------------------------


class Folder:
    """DIR: where everything of this machine lies."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def load(self, name: str) -> Json | None:
        try:
            with open(self.path(name), "rb") as file:
                record = json.loads(file.read())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None


def write_record(path: str, record: Json, *, lasting: bool = False) -> None:
    """Whole or not at all: a reader sees the old record or the new one."""
    fresh = "%s.%d.new" % (path, os.getpid())
    try:
        with open(fresh, "wb") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        remove(fresh)
        raise


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


COMMANDS: dict[str, Callable[..., None]] = {"unpack": unpack}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
