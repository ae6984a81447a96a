"""The agent's file must run on any machine with Python 3.8, alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tests.jobs.agent.conftest import AGENT

SOURCE = AGENT.read_text()

# All are in Python 3.8's library, on Linux and on macOS.
QUICK = {"__future__", "collections", "errno", "fcntl", "json", "os", "re", "select", "signal", "stat", "sys", "time"}
SLOW = {
    "base64", "ctypes", "gzip", "hashlib", "platform", "shutil", "socket", "subprocess", "tarfile", "tempfile",
    "traceback", "typing", "venv", "zlib",
}  # fmt: skip
TOO_NEW = {
    "waitstatus_to_exitcode", "pidfd_open", "pidfd_send_signal", "removeprefix", "removesuffix", "is_relative_to",
    "cache", "pairwise", "batched", "process_cpu_count", "extraction_filter", "file_digest", "unshare", "filter",
    "dirs_exist_ok", "strict",
}  # fmt: skip


def test_python_38_can_read_it() -> None:
    ast.parse(SOURCE, feature_version=(3, 8))


def test_nothing_but_the_standard_library() -> None:
    assert imported(ast.walk(ast.parse(SOURCE))) <= QUICK | SLOW


def test_what_is_slow_to_import_is_imported_where_it_is_needed() -> None:
    """`read` is called every few seconds for every job."""
    assert not imported(ast.parse(SOURCE).body) & SLOW


def test_nothing_that_came_after_python_38() -> None:
    tree = list(ast.walk(ast.parse(SOURCE)))
    used = {node.attr for node in tree if isinstance(node, ast.Attribute)} | {
        keyword.arg for node in tree if isinstance(node, ast.Call) for keyword in node.keywords if keyword.arg
    }
    assert not used & TOO_NEW


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names
