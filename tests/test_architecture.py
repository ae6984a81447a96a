"""The shape of the house, held by reading the source: who may know whom, how long things get, and what starts fast."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import providers

ROOT = Path(__file__).parents[1]
MAY_KNOW = {
    "orchestrator": {"orchestrator", "providers", "jobs"},
    "providers": {"providers"},
    "jobs": {"jobs"},
}
ALONE = (
    *(f"jobs/agent/{part}.py" for part in ("agent", "unpack", "gather")),
    "providers/host.py",
)  # copied to a machine, or run beside it, without the rest
HEAVY = ("boto3", "paramiko", "psycopg", "pydantic", "requests", "rich", "ruamel", "runpod", "sqlalchemy", "vastai")
LONGEST_FILE = 450
LONGEST_FUNCTION = 60
LONGEST_AGENT = 2000  # it is copied to a machine as one file


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


SHIPPED = [ROOT / "gpujob.py", *sources("orchestrator", "providers", "jobs")]
ALL = [*SHIPPED, *sources("bench", "templates", "tests")]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, wherever it stands."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import"
            yield node.lineno, node.module or ""


def top(module: str) -> str:
    return module.partition(".")[0]


def test_imports_go_downwards_only() -> None:
    wrong = [
        f"{name(path)}:{line}: {package} must not know {module}"
        for package, known in MAY_KNOW.items()
        for path in sources(package)
        for line, module in imports(path)
        if top(module) in {*MAY_KNOW, "gpujob", "templates", "tests", "bench"} - known
    ]
    assert wrong == []


@pytest.mark.parametrize("path", ALONE)
def test_what_goes_to_a_machine_needs_python_alone(path: str) -> None:
    wrong = [f"{path}:{line}: {module}" for line, module in imports(ROOT / path) if top(module) not in known_modules()]
    assert wrong == []


def known_modules() -> set[str]:
    return {*sys.stdlib_module_names, "__future__"}


def test_nobody_branches_on_the_name_of_a_provider() -> None:
    wrong = [
        f"{name(path)}: {ast.unparse(test)}"
        for path in SHIPPED
        for test in comparisons(path)
        for provider in {*providers.names(), "aws", "runpod", "vast"}
        if mentions(test, provider) and not name(path).startswith(f"providers/{provider}/")
    ]
    assert wrong == []


def comparisons(path: Path) -> Iterator[ast.expr | ast.pattern]:
    """What is compared or matched. The kind of an access, in the store's words, is no provider's name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Compare) and "['kind']" not in ast.unparse(node):
            yield node
        elif isinstance(node, ast.match_case):
            yield node.pattern


def mentions(test: ast.AST, provider: str) -> bool:
    return any(isinstance(part, ast.Constant) and part.value == provider for part in ast.walk(test))


def test_every_provider_has_its_folder_and_its_contract_test() -> None:
    folders = {path.parent.name for path in (ROOT / "providers").glob("*/provider.py")}
    assert set(providers.names()) == folders
    assert {f"test_{folder}.py" for folder in folders} <= {path.name for path in (ROOT / "tests/contract").glob("*.py")}


def test_every_module_says_what_it_is() -> None:
    silent = [name(path) for path in ALL if path.read_text().strip() and not ast.get_docstring(parsed(path))]
    assert silent == []


def test_files_have_one_subject() -> None:
    long = {name(path): lines for path in ALL if (lines := len(path.read_text().splitlines())) > LONGEST_FILE}
    assert long.pop("jobs/agent/agent.py", 0) <= LONGEST_AGENT
    assert long == {}


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name(path)}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in ALL
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]], ids=" ".join)
def test_heavy_libraries_are_not_on_the_way_to_help(arguments: list[str]) -> None:
    script = (
        "import sys; from orchestrator.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print('loaded:', *sorted(set(sys.modules) & {set(HEAVY)}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "loaded:"
