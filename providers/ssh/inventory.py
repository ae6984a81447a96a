"""hosts.toml: the computers that the user owns, as he declares them. Connects nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from providers.errors import Rejected
from providers.inventory import Table, read_toml

DIRECTORY = "~/.gpujob/machines"

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_KEY = r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?"


@dataclass(frozen=True, kw_only=True)
class Host:
    """One computer. What is None was not declared: an offer claims it, and the probe finds out."""

    name: str
    host: str
    user: str
    port: int = 22
    key: Path | None = None
    gpus: tuple[tuple[str, int], ...] = ()  # canonical name and count, in the order of nvidia-smi
    price_per_hour: Decimal = Decimal(0)
    cpus: float | None = None
    memory: int | None = None
    disk: int | None = None
    host_keys: tuple[str, ...] = ()
    python: str = "python3"
    directory: str = DIRECTORY

    def gpu_ids(self, kind: str | None) -> tuple[int, ...]:
        """The indices of this kind of GPU, as nvidia-smi counts."""
        kinds = [name for name, count in self.gpus for _ in range(count)]
        return tuple(index for index, name in enumerate(kinds) if kind == name)


def path_in(home: Path) -> Path:
    return home / "hosts.toml"


def read(home: Path, env: Mapping[str, str]) -> tuple[Host, ...]:
    """Every host of the file; none when there is no file. Raises Rejected with all that is wrong, a line each."""
    path = path_in(home)
    content = read_toml(path, provider="ssh")
    problems: list[str] = []
    top = Table(dict.fromkeys(content), where=f"{path}", problems=problems)
    top.text("host")
    top.refuse_others()
    rows = content.get("host", [])
    if not isinstance(rows, list):
        top.problem("host", "is a list of tables: write [[host]] with two brackets")
        rows = []
    hosts = [_host(row, number, path, env, problems) for number, row in enumerate(rows, 1)]
    names = [host.name for host in hosts]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.append(f'{path}: host "{name}": name: is there {names.count(name)} times')
    if problems:
        raise Rejected("\n".join(problems), provider="ssh")
    return tuple(hosts)


def _host(row: object, number: int, path: Path, env: Mapping[str, str], problems: list[str]) -> Host:
    called = next((row[key] for key in ("name", "host") if isinstance(row, dict) and row.get(key)), number)
    entry = f'"{called}"' if isinstance(called, str) else str(called)
    table = Table(row, where=f"{path}: host {entry}", problems=problems)
    address = table.text("host", pattern=r"[^\s/]+", form="a host name or address")
    if isinstance(row, dict) and "host" not in row:
        table.problem("host", 'is missing; write its name or address, such as host = "192.168.1.20"')
    form = "letters, digits, points, hyphens and underscores"
    host = Host(
        name=table.text("name", address, pattern=_NAME, form=form) or "",
        host=address or "",
        user=table.text("user", env.get("USER") or env.get("LOGNAME"), pattern=r"[^\s@]+", form="a user's name") or "",
        port=table.integer("port", 22, least=1, most=65535),
        key=_key(table.text("key"), path.parent, env),
        gpus=table.gpus("gpus"),
        price_per_hour=table.money("price_per_hour"),
        cpus=table.number("cpus"),
        memory=table.size("memory"),
        disk=table.size("disk"),
        host_keys=tuple(_host_key(text, table) for text in table.texts("host_key")),
        python=table.text("python", "python3", pattern=r"[^\s'\"]+", form="a program's name or path") or "",
        directory=table.text("directory", DIRECTORY, pattern=r"(~|/).*", form="an absolute path") or "",
    )
    table.refuse_others()
    if not host.user:
        table.problem("user", "is missing; write the name that you log in with there")
    if host.name and not re.fullmatch(_NAME, host.name):
        table.problem("name", f"is missing, and {host.name} is no name: write one of {form}")
    return host


def _key(text: str | None, folder: Path, env: Mapping[str, str]) -> Path | None:
    if text is None:
        return None
    if text.startswith("~/"):
        return Path(env.get("HOME") or Path.home()) / text[2:]
    return folder / text


def _host_key(text: str, table: Table) -> str:
    if not re.fullmatch(_KEY, text):
        table.problem("host_key", f'must be a public key such as "ssh-ed25519 AAAA...", not "{text}"')
    return " ".join(text.split()[:2])
