"""The agent's files must run on any machine with Python 3.8, each alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

import pytest

from tests.jobs.agent.conftest import AGENT

FILES = ("agent.py", "unpack.py", "gather.py")
TREES = {name: ast.parse((AGENT / name).read_text()) for name in FILES}
APART = {"main", "_failed", "request"}  # each as its file's commands need it
SHARED = {"Refused", "answer", "write_record", "remove", "is_full", "write_all"}  # and Folder, in part

# All are in Python 3.8's library, on Linux and on macOS.
QUICK = {
    "__future__", "collections", "errno", "fcntl", "itertools", "json", "os", "re", "select", "signal", "stat", "sys",
    "time",
}  # fmt: skip
SLOW = {
    "base64", "ctypes", "gzip", "hashlib", "platform", "shutil", "socket", "subprocess", "tarfile", "tempfile",
    "threading", "traceback", "typing", "venv", "zlib",
}  # fmt: skip
TOO_NEW = {
    "waitstatus_to_exitcode", "pidfd_open", "pidfd_send_signal", "removeprefix", "removesuffix", "is_relative_to",
    "cache", "pairwise", "batched", "process_cpu_count", "extraction_filter", "file_digest", "unshare", "filter",
    "dirs_exist_ok", "strict",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_python_38_can_read_it(name: str) -> None:
    ast.parse((AGENT / name).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("name", FILES)
def test_nothing_but_the_standard_library(name: str) -> None:
    assert imported(ast.walk(TREES[name])) <= QUICK | SLOW


@pytest.mark.parametrize("name", FILES)
def test_what_is_slow_to_import_is_imported_where_it_is_needed(name: str) -> None:
    """`read` is called every few seconds for every job, and the others for every visit."""
    assert not imported(TREES[name].body) & SLOW


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_came_after_python_38(name: str) -> None:
    tree = list(ast.walk(TREES[name]))
    used = {node.attr for node in tree if isinstance(node, ast.Attribute)} | {
        keyword.arg for node in tree if isinstance(node, ast.Call) for keyword in node.keywords if keyword.arg
    }
    assert not used & TOO_NEW


def test_what_several_files_have_is_the_same_in_all() -> None:
    """They stand alone, and cannot import it from each other."""
    spellings: dict[str, set[str]] = {}
    for tree in TREES.values():
        for name, node in definitions(tree):
            spellings.setdefault(name, set()).add(ast.unparse(node))
    several = {name for name in spellings if sum(name in dict(definitions(tree)) for tree in TREES.values()) > 1}
    assert several - APART >= SHARED
    assert {name for name in several - APART if len(spellings[name]) > 1} == set()


def definitions(tree: ast.Module) -> Sequence[tuple[str, ast.stmt]]:
    """Functions and classes by name; of Folder, each method by itself, as a file has only those that it needs."""
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = [node for one in found if one.name == "Folder" for node in one.body if isinstance(node, ast.FunctionDef)]
    return [(node.name, node) for node in found if node.name != "Folder"] + [(f"Folder.{m.name}", m) for m in methods]


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names
