"""Each expectation was taken from git itself; the last test asks git again, on random trees."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from jobs.bundle import scan
from jobs.ignore import IgnoreFile


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.o", ["a.o", "x/y/a.o", ".o"], ["a.oo", "o"]),
        ("/a", ["a"], ["x/a"]),
        ("a/b", ["a/b"], ["x/a/b", "a/b/c", "b"]),
        ("a/*", ["a/b"], ["a", "a/b/c"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("**/b", ["b", "x/b", "x/y/b"], ["bb"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "b"]),
        ("a**", ["a", "abc", "x/abc"], ["ba"]),
        ("?", ["a", "x/ä"], ["ab"]),
        ("[ab]c", ["ac", "bc"], ["cc"]),
        ("[!ab]c", ["cc"], ["ac"]),
        ("[a-c]", ["b"], ["d", "-"]),
        ("[]x]", ["]", "x"], ["a"]),
        ("[[:digit:]]", ["7"], ["a"]),
        ("[", [], ["[", "a"]),
        ("\\#a", ["#a"], ["a"]),
        ("\\!a", ["!a"], ["a"]),
        ("\\*", ["*"], ["a"]),
        ("# a", [], ["# a", " a"]),
        ("a ", ["a"], ["a "]),
        ("a\\ ", ["a "], ["a"]),
        ("a b", ["a b"], ["a"]),
        ("a\r", ["a"], ["a\r"]),
        ("", [], ["a"]),
        ("/", [], ["a"]),
    ],
)
def test_a_pattern(pattern: str, matching: list[str], others: list[str]) -> None:
    rules = IgnoreFile.parse(pattern)
    assert {path: rules.verdict(path, directory=False) for path in matching} == dict.fromkeys(matching, True)
    assert {path: rules.verdict(path, directory=False) for path in others} == dict.fromkeys(others)


def test_a_slash_at_the_end_is_for_directories() -> None:
    rules = IgnoreFile.parse("build/")
    assert rules.verdict("x/build", directory=True)
    assert rules.verdict("x/build", directory=False) is None


def test_the_last_pattern_that_matches_decides() -> None:
    rules = IgnoreFile.parse("\ufeff*.pt\n!best.pt\nold/best.pt\n")
    assert rules.verdict("a.pt", directory=False) is True
    assert rules.verdict("best.pt", directory=False) is False
    assert rules.verdict("old/best.pt", directory=False) is True


NAMES = ["a", "b", "c.o", "d.py", "lib", "x y", "B", ".h", "e]", "#f", "!g", "t "]
PATTERNS = r"""
a a/ /a *.o !d.py a/b a/* !a/b **/b a/** /a/**/b * !*/ !*.py lib/ !lib/ ? [ab] [!a] b/ !b/ *.py #x \#f \!g x?y
/* !/a !/a/ lib/** !lib/**/d.py ** **/ /lib/a a/b/ [ e] c.* .* !.h a** **/a/b [[:alpha:]] [!b-d] \a a\ []] a/**/
**/*.o *** a/***/b **b / // [a-c].* [b\]]* e[]]
"""


@pytest.mark.process
@pytest.mark.parametrize("seed", range(40))
def test_git_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "work"
    root.mkdir()
    _grow(root, random.Random(seed), depth=0)
    subprocess.run(["git", "init", "-q", root], check=True)
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True
    )
    taken = {os.fsdecode(path) for path in listed.stdout.split(b"\0") if path}
    assert {file.path for file in scan(root).files} == taken


def _grow(folder: Path, dice: random.Random, *, depth: int) -> None:
    for name in dice.sample(NAMES, dice.randint(2, 6)):
        if depth < 3 and dice.random() < 0.5:
            (folder / name).mkdir()
            _grow(folder / name, dice, depth=depth + 1)
        else:
            (folder / name).write_text("x")
    if depth == 0 or dice.random() < 0.3:
        lines = [*dice.choices(PATTERNS.split(), k=dice.randint(1, 6)), "t\\ ", ""]
        (folder / ".gitignore").write_text("\n".join(lines))
