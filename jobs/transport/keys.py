"""One run's own SSH key pair: made once, kept as a 0600 file in OpenSSH's format. Knows no run and no connection.

A login's private key never leaves this module but as that file. `cryptography` is imported when it is first needed.
"""

from __future__ import annotations

import os
from pathlib import Path


class KeyFileError(Exception):
    """The key file cannot be used; the message names the file and says nothing of what is in it."""


def ensure(path: Path, *, comment: str = "gpujob") -> str:
    """Make an ed25519 key at `path` unless there is one, and return its public line for authorized_keys."""
    if not path.exists():
        _write_private(path)
    return public_text(path, comment=comment)


def public_text(path: Path, *, comment: str = "gpujob") -> str:
    """The public line of the private key at `path`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is not an unencrypted OpenSSH private key") from None
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}") from error
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{line} {comment}"


def private_text(path: Path) -> str:
    """The private key itself, for the machine whose host key it is to be."""
    return path.read_text(encoding="ascii")


def _write_private(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
