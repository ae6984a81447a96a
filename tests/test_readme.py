"""What README and docs show is true: marked blocks run, jobs and inventories load, commands and options exist.

Marks are comments before a block: `<!-- file: PATH -->` writes it, `<!-- run -->` or `<!-- run: exit 2 -->` runs it in
the page's own directory, and `<!-- prints -->` is what the run before it has to print.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from jobs import loader, suite
from jobs.spec import Spec
from orchestrator.benchmarks import claims
from orchestrator.cli.exit_codes import OF_A_RUN, USAGE
from orchestrator.cli.group import gpujob
from orchestrator.submission import vocabulary
from providers.local.provider import price_per_hour
from providers.ssh import inventory
from tests.e2e.driver import GPUJOB, Gpujob

ROOT = Path(__file__).parents[1]
WRITTEN_BY_HAND = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "bench" / "README.md"]
PAGES = [*WRITTEN_BY_HAND, *sorted((ROOT / "docs").glob("*.md"))]
TOP = click.Context(gpujob, info_name="gpujob", help_option_names=["-h", "--help"])

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[;&|(] *)(gpujob [^;&|)#\n]+)", re.MULTILINE)
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = re.compile(r'\]\(([^)#\s]*)(?:#([^)\s]*))?\)|<img src="([^"]+)"')


@dataclass(frozen=True)
class Block:
    page: Path
    kind: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text.splitlines()[0]}"


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text())
    return [Block(page, match["kind"], match["text"], match["mark"] or "") for match in found]


def write(block: Block, folder: Path) -> bool:
    """Whether the block is a file; then it is there."""
    if not block.mark.startswith("file: "):
        return False
    path = folder / block.mark.removeprefix("file: ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)
    return True


def every(kind: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.kind == kind]


def test_the_pages_have_examples() -> None:
    """The other tests would be silent if blocks were not found."""
    assert len(every("sh")) >= 10 and len(every("yaml")) >= 4 and len(every("toml")) >= 2


def commands(text: str) -> Iterator[list[str]]:
    for found in _COMMAND.findall(text):
        words = shlex.split(found)[1:]
        yield words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize("block", every("sh"), ids=str)
def test_commands_and_their_options_exist(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in blocks(block.page):  # an option may want a file that is there
        write(other, tmp_path)
    for name, *words in commands(block.text):
        command = gpujob.get_command(TOP, name)
        assert command is not None, f"there is no gpujob {name}"
        command.make_context(name, words, parent=TOP)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    for name in re.findall(r"`gpujob ([a-z]+)", page.read_text()):
        assert gpujob.get_command(TOP, name) is not None, f"there is no gpujob {name}"


@pytest.mark.parametrize("block", every("yaml"), ids=str)
def test_jobs_can_be_loaded(block: Block, tmp_path: Path) -> None:
    train = tmp_path / "train.yaml"
    train.write_text(block.text)
    if "broken" in block.mark:
        with pytest.raises(loader.SpecError):
            loader.load(train, vocabulary=vocabulary())
    elif block.text.startswith("claims:"):
        assert claims.load(train)
    elif suite.is_suite(train):
        assert suite.load(train, vocabulary=vocabulary()).cells
    else:
        loader.load(train, vocabulary=vocabulary())


@pytest.mark.parametrize("block", every("toml"), ids=str)
def test_configuration_can_be_read(block: Block, tmp_path: Path) -> None:
    if "[[host]]" in block.text:
        (tmp_path / "hosts.toml").write_text(block.text)
        assert len(inventory.read(tmp_path, {"USER": "ada"})) == block.text.count("[[host]]")
    else:
        (tmp_path / "config.toml").write_text(block.text)
        assert price_per_hour(tmp_path) > 0


def test_every_key_of_train_yaml_is_explained_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", (ROOT / "docs/train-yaml.md").read_text(), re.MULTILINE))
    keys = dict(_keys(Spec.model_json_schema()))
    assert {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)} <= set(rows), (
        "a key is missing"
    )
    assert {key for key in rows if "." in key} <= set(keys), "a key is explained that does not exist"
    for key, description in keys.items():
        if default := re.search(r"Default: (.+?)\.?$", description):
            assert default[1].removesuffix(" that this file is in") in rows[key], key


def _keys(schema: dict[str, Any], of: dict[str, Any] | None = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key and its description. A list of sections counts as the section."""
    for name, field in (of or schema)["properties"].items():
        yield prefix + name, str(field.get("description", ""))
        if inner := re.search(r"'#/\$defs/(\w+)'", str(field)):
            yield from _keys(schema, schema["$defs"][inner[1]], f"{prefix}{name}.")


def test_every_key_of_hosts_toml_is_explained(tmp_path: Path) -> None:
    (tmp_path / "hosts.toml").write_text('[[host]]\nhost = "a"\nuser = "b"\nnever_known_here = 1\n')
    with pytest.raises(Exception, match="the keys here are") as refused:
        inventory.read(tmp_path, {})
    known = str(refused.value).partition("the keys here are ")[2].split(", ")
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/hosts.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(known)


def test_every_exit_code_of_a_run_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [int(code) for code in rows] == sorted({*OF_A_RUN, USAGE})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor, picture in _LINK.findall(page.read_text()):
        if (path or picture).startswith("http"):
            continue
        target = (page.parent / (path or picture)) if path or picture else page
        assert target.exists(), path or picture
        assert not anchor or anchor in _anchors(target), f"{target.name}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_picture_shows_a_run_that_succeeded() -> None:
    texts = ["".join(text.itertext()) for text in ElementTree.parse(ROOT / "docs/pictures/run.svg").iter(f"{_SVG}text")]
    assert texts[0].startswith("$ gpujob submit")
    assert any("succeeded" in text for text in texts)


def test_the_picture_of_a_rehearsal_says_that_it_is_one() -> None:
    picture = ElementTree.parse(ROOT / "docs/pictures/rehearse.svg")
    shown = ["".join(text.itertext()) for text in picture.iter(f"{_SVG}text")]
    assert shown[0].startswith("$ gpujob rehearse") and shown[1].startswith("SIMULATED clouds")
    assert any("succeeded" in text for text in shown) and "nothing" in shown[-1]


def test_the_recorder_keeps_what_a_terminal_would_show() -> None:
    terminal = _recorder().Terminal()
    terminal.feed("one\r\n\x1b[2K\x1b[1mtwo\x1b[0m\r\nspinner\r\x1b[2K\x1b[1Athree ")
    assert ["".join(char for char, _ in row) for row in terminal.screen()] == ["one", "three ", ""]


def _recorder() -> ModuleType:
    spec = spec_from_file_location("record", ROOT / "docs/record.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["record"] = module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.process
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.mark.startswith("run") for b in blocks(page))])
def test_what_is_marked_runs(page: Path, tmp_path: Path) -> None:
    user = Gpujob(tmp_path, {"PATH": f"{Path(GPUJOB).parent}{os.pathsep}{os.environ['PATH']}"})
    printed = ""
    try:
        for block in blocks(page):
            if write(block, tmp_path):
                continue
            if block.mark.startswith("run"):
                printed = _run(block, user)
            elif block.mark == "prints":
                assert block.text.strip() in printed
            else:
                assert not block.mark, f"unknown mark: {block.mark}"
    finally:
        user.kill_controller()
    assert user.leftovers() == []


def _run(block: Block, user: Gpujob) -> str:
    program = [sys.executable, "-c"] if block.kind == "python" else ["bash", "-euc"]
    done = subprocess.run(
        [*program, block.text],
        cwd=user.root, env=user.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    expected = int(block.mark.partition("exit ")[2] or 0)
    assert done.returncode == expected, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("block", [block for block in every("python") if not block.mark], ids=str)
def test_other_python_runs_on_its_own(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})
    assert list(tmp_path.rglob("*")), "it wrote something"
