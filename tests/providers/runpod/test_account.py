"""Where the key comes from, and that nobody's own key is come upon."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.runpod import account


def written(home: Path, text: str) -> dict[str, str]:
    (home / ".runpod").mkdir()
    (home / ".runpod" / "config.toml").write_text(text)
    return {"HOME": str(home)}


def test_the_variable_goes_before_the_file(tmp_path: Path) -> None:
    env = written(tmp_path, '[default]\napi_key = "from-the-file"\n')
    assert account.read(env).key == "from-the-file"
    assert account.read({**env, "RUNPOD_API_KEY": " from-the-variable\n"}).key == "from-the-variable"


@pytest.mark.parametrize("text", ["", "[other]\napi_key = 'x'\n", "[default]\n", "default = 1\n", "[default\n"])
def test_a_file_without_a_key_is_a_problem_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    found = account.read(written(tmp_path, text))
    assert found.key == "" and "RUNPOD_API_KEY" in str(found.problem)


def test_without_a_home_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, '[default]\napi_key = "their-own"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert account.read({}).key == ""


@pytest.mark.parametrize("key", ["two words", "wäre", "a\r\nX-Other: header"])
def test_what_cannot_be_a_key_is_not_sent(key: str) -> None:
    found = account.read({"RUNPOD_API_KEY": key})
    assert found.key == "" and found.problem is not None and key not in found.problem


@pytest.mark.parametrize(
    ("base", "simulated"),
    [
        ("http://127.0.0.1:4567", True),
        ("http://localhost:4567/", True),
        ("http://[::1]:4567", True),
        ("https://api.runpod.io", False),
        ("https://127.0.0.1.example.com", False),
    ],
)
def test_a_cloud_on_this_computer_is_a_simulated_one(base: str, simulated: bool) -> None:
    assert account.read({"RUNPOD_API_BASE_URL": base}).is_simulated is simulated
    assert not account.read({}).is_simulated


def test_the_key_is_not_shown() -> None:
    assert "topsecret" not in repr(account.read({"RUNPOD_API_KEY": "topsecret"}))
