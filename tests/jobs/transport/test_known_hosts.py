"""Host keys are pinned per instance, also by several processes at once."""

from __future__ import annotations

import threading
from pathlib import Path

from jobs.transport.known_hosts import KnownHosts


def test_the_first_key_stays(tmp_path: Path) -> None:
    hosts = KnownHosts(tmp_path / "run" / "known_hosts.json")
    assert hosts.of("i-1") == ()
    assert hosts.pin("i-1", "ssh-ed25519 AAAA") == ("ssh-ed25519 AAAA",)
    assert hosts.pin("i-1", "ssh-ed25519 BBBB") == ("ssh-ed25519 AAAA",)
    assert hosts.of("i-1") == ("ssh-ed25519 AAAA",)


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts.json"
    threads = [threading.Thread(target=KnownHosts(path).pin, args=(f"i-{n}", f"key-{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(KnownHosts(path).of(f"i-{n}") == (f"key-{n}",) for n in range(20))
