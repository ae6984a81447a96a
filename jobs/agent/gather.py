"""gpujob's agent: lists a machine's files and gives them out. It is copied there beside agent.py.

Standard library only, Python 3.8 or newer, Linux and macOS. Called as `python3 DIR/gather.py [REQUEST] COMMAND`; a long
REQUEST comes over stdin. It stands alone because Python compiles a script anew at each call
(designs/0007-files-of-the-agent.md); what several of the agent's files need is in each. Knows no job and no cloud.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing below may cost time at run time
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

    Json = dict[str, Any]

BLOCK = 1024 * 1024
PIPE_BLOCK = 256 * 1024
LINK, KEPT_CHANGING, NOT_A_FILE = "link", "it kept changing while it was read", "not a regular file"
NO_SPACE = "no space left on the machine's disk"
RECORD = 512  # what a tar stream is made of
SIGN_OF_LIFE_BYTES = 1024 * BLOCK  # an empty line after so much, that nobody takes a long file for a hung machine
DATA = ("manifest", "pack", "cut")  # their stdout is data


class Refused(Exception):
    """A command cannot be done; the text says why."""


def main(arguments: Sequence[str]) -> int:
    name, asked = (arguments[-1], arguments[:-1]) if arguments else ("", [])
    command = COMMANDS.get(name)
    if command is None or len(asked) > 1:
        return _failed("not a command: %r; there are: %s" % (" ".join(arguments), " ".join(sorted(COMMANDS))), name)
    try:
        command(Folder(os.path.dirname(os.path.abspath(__file__))), request(*asked))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    except Refused as refused:
        return _failed(str(refused), name)
    except OSError as error:
        return _failed(NO_SPACE if is_full(error) else str(error), name)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _failed("%s: the request makes no sense: %s: %s" % (name, type(error).__name__, error), name)
    return 0


def _failed(reason: str, name: str) -> int:
    if name not in DATA:
        answer({"error": reason})
    sys.stderr.write("agent: %s\n" % reason)
    return 2


def answer(record: Json) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def request(raw: str | bytes | None = None) -> Any:
    """The JSON that was given, or that is on stdin."""
    try:
        return json.loads(sys.stdin.buffer.read() if raw is None else raw)
    except ValueError as error:
        raise Refused("the request is not JSON: %s" % error) from error


# ---- manifest, pack, cut: what comes back ----------------------------------------------------------------------------


def manifest(folder: Folder, asked: Json) -> None:
    work = folder.path("shared", "work")
    selection = Selection(asked.get("patterns") or [])
    skipped, count = selection.refused, 0
    for path in selection.walk(work):
        try:
            record = _describe(work, path, hashed=bool(asked.get("hash", True)))
        except FileNotFoundError:
            continue
        except (Refused, OSError) as why:
            reason = os.strerror(why.errno) if isinstance(why, OSError) and why.errno else str(why)
            skipped.append({"path": path, "why": reason})
            continue
        count += 1
        sys.stdout.write(json.dumps(record) + "\n")
    answer({"end": True, "files": count, "skipped": skipped})


class Selection:
    """Files below a directory by glob patterns: `**` is any depth; a name without wildcards is also all below it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.refused: list[Json] = []
        self._bases: set[str] = set()
        expressions = []
        for pattern in patterns:
            parts = [part for part in pattern.split("/") if part not in ("", ".")]
            if pattern.startswith("/") or ".." in parts:
                self.refused.append({"path": pattern, "why": "outside the working directory"})
                continue
            wild = [index for index, part in enumerate(parts) if re.search(r"[*?\[]", part)]
            self._bases.add("/".join(parts[: wild[0]] if wild else parts))
            expressions.append(_expression(parts))
        self._matches = re.compile("|".join(expressions) or r"(?!)", re.DOTALL).fullmatch

    def walk(self, work: str) -> Iterator[str]:
        """Paths of all that matches and is no directory; directories that cannot be read are in `refused`."""
        for base in sorted(self._bases):
            above = ["/".join(base.split("/")[:depth]) for depth in range(base.count("/") + 1)]
            if base and any(other in self._bases for other in above):
                continue  # comes with the other one
            link = next((path for path in [*above, base] if path and os.path.islink(os.path.join(work, path))), None)
            if link is not None:
                self.refused.append({"path": link, "why": LINK})
            elif os.path.isdir(os.path.join(work, base)):
                yield from self._below(work, base)
            elif os.path.lexists(os.path.join(work, base)) and self._matches(base):
                yield base

    def _below(self, work: str, base: str) -> Iterator[str]:
        waiting = [base]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(os.path.join(work, directory)) as found:
                    entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.refused.append({"path": directory, "why": os.strerror(error.errno or 0)})
                continue
            for name, is_directory in entries:
                path = directory + "/" + name if directory else name
                if is_directory:
                    waiting.append(path)
                elif self._matches(path):
                    yield path


def _expression(parts: Sequence[str]) -> str:
    if not parts:
        return ".*"
    text = ""
    for part in parts[:-1]:
        text += "(?:[^/]+/)*" if part == "**" else _one_name(part) + "/"
    if parts[-1] == "**":
        return text + ".+"
    last = _one_name(parts[-1])
    return text + last + ("" if re.search(r"[*?\[]", parts[-1]) else "(?:/.*)?")


def _one_name(part: str) -> str:
    text, index = "", 0
    while index < len(part):
        letter, close = part[index], part.find("]", index + 2)
        index += 1
        if letter == "*":
            text += "[^/]*"
        elif letter == "?":
            text += "[^/]"
        elif letter == "[" and close > 0:
            inner = part[index:close].replace("\\", r"\\").replace("[", r"\[")
            text += "[%s]" % ("^/" + inner[1:] if inner[0] == "!" else inner.replace("^", r"\^"))
            index = close + 1
        else:
            text += re.escape(letter)
    return text


def _describe(work: str, path: str, *, hashed: bool) -> Json:
    target = work + "/" + path
    if not hashed:
        found = os.lstat(target)
        _refuse_special(found)
        return _entry(path, found, None)
    import hashlib

    for _ in range(3):
        fd = open_regular(target)
        try:
            before, digest, quiet = os.fstat(fd), hashlib.sha256(), 0
            for chunk in iter(lambda: os.read(fd, BLOCK), b""):  # noqa: B023
                digest.update(chunk)
                quiet += len(chunk)
                if quiet >= SIGN_OF_LIFE_BYTES:
                    quiet = 0
                    sys.stdout.write("\n")
                    sys.stdout.flush()
        finally:
            os.close(fd)
        after = os.lstat(target)
        if all(getattr(before, name) == getattr(after, name) for name in ("st_ino", "st_size", "st_mtime_ns")):
            return _entry(path, after, digest.hexdigest())
        time.sleep(0.05)
    raise Refused(KEPT_CHANGING)


def _entry(path: str, found: os.stat_result, digest: str | None) -> Json:
    return {"path": path, "bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": digest}


def pack(folder: Folder, asked: Json) -> None:
    """A tar stream of the files that were asked for."""
    paths = asked.get("paths") or []
    with open(1, "wb", buffering=PIPE_BLOCK, closefd=False) as out, Below(folder.path("shared", "work")) as below:
        for path in paths:
            try:
                fd = below.open(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it vanished; the receiver sees that it did not come
            try:
                _pack_one(out, os.fsencode(path), fd)
            finally:
                os.close(fd)
        out.write(bytes(2 * RECORD))


def _pack_one(out: BinaryIO, name: bytes, fd: int) -> None:
    """Of a file that loses bytes meanwhile, zeros come instead: its checksum will not fit, but the stream is whole."""
    found = os.fstat(fd)
    out.write(header(name, found.st_size, found.st_mode, int(found.st_mtime)))
    left = found.st_size
    while left > 0:
        chunk = os.read(fd, min(left, BLOCK)) or bytes(min(left, BLOCK))
        out.write(chunk)
        left -= len(chunk)
    out.write(bytes(-found.st_size % RECORD))


def cut(folder: Folder, asked: Json) -> None:
    """Some bytes of one file."""
    left = int(asked["limit"])
    with Below(folder.path("shared", "work")) as below:
        fd = below.open(asked["path"])
    os.lseek(fd, int(asked.get("offset", 0)), os.SEEK_SET)
    while left > 0:
        chunk = os.read(fd, min(left, PIPE_BLOCK))
        if not chunk:
            break
        write_all(1, chunk)
        left -= len(chunk)


def header(name: bytes, size: int, mode: int, mtime: int) -> bytes:
    """The header of a file, with one more before it where the name is long."""
    before = b""
    if len(name) > 100:
        before = header(b"././@LongLink", len(name) + 1, 0, 0)
        before = _marked(before, b"L") + name + b"\0" * (1 + -(len(name) + 1) % RECORD)
    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            b"%07o\0" % (mode & 0o777),
            b"0000000\0" * 2,
            b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big"),
            b"%011o\0" % min(max(mtime, 0), 8**11 - 1),
            b" " * 8,
            b"0".ljust(101, b"\0"),
            b"ustar  \0",
            bytes(247),
        )
    )
    return before + _marked(block, b"0")


def _marked(block: bytes, kind: bytes) -> bytes:
    block = block[:148] + b" " * 8 + kind + block[157:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


class Below:
    """Regular files below a directory, reached through no link: others choose the paths, and may change what is there.

    Every directory on the way is opened by itself, so that none can become a link between a look and its use.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._way: list[str] | None = None
        self._directory = -1

    def __enter__(self) -> Below:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def open(self, path: str) -> int:
        """An open file. FileNotFoundError, NotADirectoryError: it is not there."""
        *way, name = path.split("/")
        if name in ("", ".", "..") or any(part in ("", ".", "..") for part in way):
            raise Refused("%r is outside the working directory" % path)
        if way != self._way:
            self._enter(way)
        return open_regular(name, self._directory)

    def _enter(self, way: Sequence[str]) -> None:
        self._leave()
        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in way:
                below = _open_directory(part, directory)
                os.close(directory)
                directory = below
        except BaseException:
            os.close(directory)
            raise
        self._way, self._directory = list(way), directory

    def _leave(self) -> None:
        if self._way is not None:
            os.close(self._directory)
            self._way = None


def _open_directory(name: str, above: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:  # Linux says of a link that it is no directory, macOS that there are too many links
        if error.errno == errno.ELOOP or stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise Refused("%r is a link, and what is below it is not given out" % name) from error
        raise


def open_regular(target: str, above: int | None = None) -> int:
    """A regular file and nothing else, opened without waiting for anybody at the other end of a pipe."""
    try:
        fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused(LINK) from error
        raise
    try:
        _refuse_special(os.fstat(fd))
    except Refused:
        os.close(fd)
        raise
    return fd


def _refuse_special(found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise Refused(LINK)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(NOT_A_FILE)


# ---- what the others have too ----------------------------------------------------------------------------------------


class Folder:
    """DIR: where everything of this machine lies."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)


def write_all(fd: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(fd, rest) :]


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


COMMANDS: dict[str, Callable[..., None]] = {"manifest": manifest, "pack": pack, "cut": cut}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
