"""The agent's file must run on any machine with Python 3.8, alone."""

from __future__ import annotations

import ast

from tests.jobs.agent.conftest import AGENT

SOURCE = AGENT.read_text()

# All are in Python 3.8's library, on Linux and on macOS.
MODULES = {
    "__future__", "collections", "ctypes", "errno", "fcntl", "gzip", "hashlib", "json", "os", "platform", "re", "select",
    "shutil", "signal", "socket", "stat", "subprocess", "sys", "tarfile", "time", "traceback", "typing", "venv", "zlib",
}  # fmt: skip
SLOW = {
    "ctypes",
    "gzip",
    "hashlib",
    "platform",
    "shutil",
    "socket",
    "subprocess",
    "tarfile",
    "traceback",
    "typing",
    "venv",
    "zlib",
}
TOO_NEW = {
    "waitstatus_to_exitcode", "pidfd_open", "pidfd_send_signal", "removeprefix", "removesuffix", "is_relative_to", "cache",
    "pairwise", "batched", "process_cpu_count", "extraction_filter", "file_digest", "unshare", "setns", "dirs_exist_ok",
}  # fmt: skip


def test_python_38_can_read_it() -> None:
    ast.parse(SOURCE, feature_version=(3, 8))


def test_nothing_but_the_standard_library() -> None:
    assert imported(ast.walk(ast.parse(SOURCE))) <= MODULES


def test_what_is_slow_to_import_is_imported_where_it_is_needed() -> None:
    """`read` is called every few seconds for every job."""
    assert not imported(ast.parse(SOURCE).body) & SLOW


def test_nothing_that_came_after_python_38() -> None:
    tree = list(ast.walk(ast.parse(SOURCE)))
    used = {node.attr for node in tree if isinstance(node, ast.Attribute)} | {
        keyword.arg for node in tree if isinstance(node, ast.Call) for keyword in node.keywords if keyword.arg
    }
    assert not used & (TOO_NEW | {"filter", "strict"})
    evaluated = [node for node in tree if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    assert not [node for node in evaluated if "None" in ast.dump(node.right) and not _is_annotation(node, tree)]


def _is_annotation(node: ast.BinOp, tree: list[ast.AST]) -> bool:
    annotations = [getattr(other, "annotation", None) or getattr(other, "returns", None) for other in tree]
    return any(node in ast.walk(annotation) for annotation in annotations if annotation)


def imported(nodes: object) -> set[str]:
    names = set()
    for node in nodes:  # type: ignore[attr-defined]
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names
