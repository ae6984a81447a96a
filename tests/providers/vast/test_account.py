"""Where the key comes from, and that nobody's own key is come upon."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.vast import account


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_variable_goes_before_the_files_and_the_newer_file_before_the_older(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    written(tmp_path / ".vast_api_key", "from-the-old-file\n")
    assert account.read(env).key == "from-the-old-file"
    written(tmp_path / ".config/vastai/vast_api_key", "from-the-file\n")
    assert account.read(env).key == "from-the-file"
    written(tmp_path / "xdg/vastai/vast_api_key", "from-xdg")
    assert account.read({**env, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}).key == "from-xdg"
    assert account.read({**env, "VAST_API_KEY": " from-the-variable\n"}).key == "from-the-variable"


def test_without_a_key_it_is_said_what_to_do(tmp_path: Path) -> None:
    found = account.read({"HOME": str(tmp_path)})
    assert found.key == "" and "VAST_API_KEY" in str(found.problem)


def test_without_a_home_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / ".vast_api_key", "somebody's")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert account.read({}).key == ""


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\x00b"])
def test_what_is_no_key_is_not_sent_and_not_shown(key: str) -> None:
    found = account.read({"VAST_API_KEY": key})
    assert found.key == "" and found.problem is not None and key not in found.problem


def test_a_key_is_never_part_of_a_text() -> None:
    assert "rehearsal-secret" not in repr(account.read({"VAST_API_KEY": "rehearsal-secret"}))


@pytest.mark.parametrize(
    ("url", "simulated"),
    [("", False), ("http://127.0.0.1:8080/", True), ("http://localhost:1", True), ("https://console.vast.ai", False)],
)
def test_only_a_loopback_address_is_a_rehearsal(url: str, simulated: bool) -> None:
    found = account.read({"VAST_URL": url, "VAST_API_KEY": "k"})
    assert found.is_simulated is simulated and not found.base.endswith("/")


def test_an_address_that_is_none_is_a_problem() -> None:
    found = account.read({"VAST_URL": "127.0.0.1:80", "VAST_API_KEY": "k"})
    assert "VAST_URL" in str(found.problem) and found.base != account.BASE, "and not the real cloud is asked instead"
