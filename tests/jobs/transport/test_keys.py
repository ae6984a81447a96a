"""The key pair of a run: for its owner only, and in OpenSSH's own form."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from jobs.transport import keys


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "key"
    public = keys.ensure(path, comment="gpujob r-1")
    private = path.read_bytes()
    assert public.startswith("ssh-ed25519 AAAA")
    assert public.endswith(" gpujob r-1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.ensure(path, comment="gpujob r-1") == public
    assert path.read_bytes() == private
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_a_damaged_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    with pytest.raises(keys.KeyFileError, match=str(tmp_path / "key")) as caught:
        keys.ensure(tmp_path / "key")
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.process
@pytest.mark.sshd
def test_openssh_reads_it(tmp_path: Path) -> None:
    public = keys.ensure(tmp_path / "key")
    said = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], check=True, capture_output=True, text=True)
    assert said.stdout.split()[:2] == public.split()[:2]
