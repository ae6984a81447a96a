"""hosts.toml: what may be written, and what is said about what may not. Connects nowhere."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from providers.base import OfferQuery, Settings
from providers.errors import Rejected
from providers.ssh import inventory
from providers.ssh.inventory import Host
from providers.ssh.provider import SshProvider
from tests.fakes.clock import FakeClock

WHOLE = """
[[host]]
name = "tower"
host = "192.168.1.20"
user = "ada"
port = 2222
key = "~/.ssh/tower"
gpus = ["rtx 4090:2", "T4"]
price_per_hour = "0.15"
cpus = 32
memory = "128GiB"
disk = "1.5TB"
host_key = "ssh-ed25519 AAAAC3Nza ada@tower"
python = "~/miniconda/bin/python"
directory = "/scratch/gpujob"

[[host]]
host = "box.example.org"
"""
ENV = {"HOME": "/home/ada", "USER": "ada"}


def hosts(tmp_path: Path, text: str) -> tuple[Host, ...]:
    (tmp_path / "hosts.toml").write_text(text)
    return inventory.read(tmp_path, ENV)


def provider(tmp_path: Path, text: str) -> SshProvider:
    (tmp_path / "hosts.toml").write_text(text)
    return SshProvider(Settings(home=tmp_path, env=ENV, now=FakeClock()))


def test_everything_that_may_be_written(tmp_path: Path) -> None:
    tower, box = hosts(tmp_path, WHOLE)
    assert tower == Host(
        name="tower",
        host="192.168.1.20",
        user="ada",
        port=2222,
        key=Path("/home/ada/.ssh/tower"),
        gpus=(("RTX4090", 2), ("T4", 1)),
        price_per_hour=Decimal("0.15"),
        cpus=32,
        memory=128 * 2**30,
        disk=1_500_000_000_000,
        host_keys=("ssh-ed25519 AAAAC3Nza",),
        python="~/miniconda/bin/python",
        directory="/scratch/gpujob",
    )
    assert box == Host(name="box.example.org", host="box.example.org", user="ada")


def test_a_key_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    [host] = hosts(tmp_path, '[[host]]\nhost = "h"\nkey = "keys/tower"\n')
    assert host.key == tmp_path / "keys/tower"


A_SIZE = 'must be a size with its unit, such as "64GB" or "64GiB"'


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("port = 70000", "port: must be a whole number from 1 to 65535, not 70000"),
        ('port = "22"', 'port: must be a whole number from 1 to 65535, not "22"'),
        ('user = ""', 'user: must be a user\'s name, not ""'),
        ("pric_per_hour = 1", "pric_per_hour: unknown key; did you mean price_per_hour?"),
        (
            "xyzzy = 1",
            "xyzzy: unknown key; the keys here are cpus, directory, disk, gpus, host, host_key, key, memory,",
        ),
        ('price_per_hour = "1,50"', 'price_per_hour: must be US dollars, such as "0.25", not "1,50"'),
        ("memory = 64", f"memory: {A_SIZE}, not 64"),
        ('disk = "0GB"', f'disk: {A_SIZE}, not "0GB"'),
        ('cpus = "many"', 'cpus: must be a number above 0, not "many"'),
        ("cpus = true", "cpus: must be a number above 0, not true"),
        ('gpus = "RTX4099"', 'gpus: "RTX4099" is no GPU that is known; did you mean RTX4090'),
        ('gpus = "V100"', 'gpus: "V100" is no GPU that is known: it may be V100-'),
        ('gpus = "T4:0"', 'gpus: "T4:0" has no GPU: leave "gpus" out when there is none'),
        ("gpus = 2", "gpus: must be a text or a list of texts, not 2"),
        ('host_key = "a.pub"', 'host_key: must be a public key such as "ssh-ed25519 AAAA...", not "a.pub"'),
        ('directory = "here"', 'directory: must be an absolute path, not "here"'),
        ('name = "a b"', 'name: must be letters, digits, points, hyphens and underscores, not "a b"'),
    ],
)
def test_a_mistake_is_named_with_file_entry_and_key(tmp_path: Path, key: str, message: str) -> None:
    with pytest.raises(Rejected) as caught:
        hosts(tmp_path, f'[[host]]\nhost = "tower"\n{key}\n')
    entry = "a b" if key.startswith("name") else "tower"
    assert str(caught.value).startswith(f'{tmp_path}/hosts.toml: host "{entry}": {message}')


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('[[host]]\nname = "a"\n', ['host "a": host: is missing; write its name or address, such as host = "192.168']),
        ('[[host]]\nhost = "a b"\n', ['host "a b": host: must be a host name or address, not "a b"']),
        ('[[host]]\nhost = "::1"\n', ['host "::1": name: is missing, and ::1 is no name: write one of letters']),
        ('[[host]]\nhost = "a"\n[[host]]\nhost = "a"\n', ['host "a": name: is there 2 times']),
        ('[host]\nhost = "a"\n', ["host: is a list of tables: write [[host]] with two brackets"]),
        ('hosts = ["a"]\n', ["hosts: unknown key; did you mean host?"]),
        ("host = [1]\n", ["host 1: must be a table of keys, not 1"]),
        ('[[host]]\nhost = "a\n', ["not TOML: Illegal character"]),
        (
            '[[host]]\nname = "a"\nusr = "ada"\n[[host]]\nhost = "b"\nport = 0\n',
            ['host "a": host: is missing', 'host "a": usr: unknown key; did you mean user?', 'host "b": port: must be'],
        ),
    ],
)
def test_all_mistakes_of_a_file_are_named_at_once(tmp_path: Path, text: str, messages: list[str]) -> None:
    with pytest.raises(Rejected) as caught:
        hosts(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"{tmp_path}/hosts.toml: {message}")


def test_without_an_inventory_there_is_nothing_to_offer(tmp_path: Path) -> None:
    empty = SshProvider(Settings(home=tmp_path, env=ENV, now=FakeClock()))
    assert empty.offers(OfferQuery()) == ()
    assert empty.list("alice") == []


def test_each_host_and_each_kind_of_gpu_is_an_offer(tmp_path: Path) -> None:
    ssh = provider(tmp_path, WHOLE)
    assert [(o.host_id, o.gpu, o.gpu_count) for o in ssh.offers(OfferQuery())] == [
        ("tower", None, 0),
        ("box.example.org", None, 0),
    ]
    [pair] = ssh.offers(OfferQuery(gpus=("RTX4090",), gpu_count=2))
    assert (pair.gpu_count, pair.usd_per_hour, pair.vcpus, pair.disk_gb) == (2, Decimal("0.15"), 32, 1500)
    assert ssh.offers(OfferQuery(gpus=("T4",), gpu_count=2)) == ()
    assert [o.host_id for o in ssh.offers(OfferQuery(regions=("tower",)))] == ["tower"]


def test_what_is_not_declared_is_left_to_the_probe(tmp_path: Path) -> None:
    big = OfferQuery(vcpus=64, memory_gb=512, disk_gb=100)
    assert [offer.host_id for offer in provider(tmp_path, WHOLE).offers(big)] == ["box.example.org"]
