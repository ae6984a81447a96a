"""A MachineRequest as a container: docker's options, the command, and the files that are put in before it starts.

Pure. What is put in lies in `inside/`; knows no engine and no lifetime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from providers.rehearsal.machines.base import MachineRequest, SimulatedGpus
from providers.rehearsal.machines.golden import NESTED

OWN = "/usr/local/lib/gpujob-rehearsal"
NVIDIA_SMI = "/usr/bin/nvidia-smi"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as on Ubuntu
_SEED = "/var/lib/cloud/seed/nocloud"

Files = Mapping[str, tuple[bytes, int]]

# Less than a cloud image does, so that a boot takes a second; what a tenant's user data may ask for is there.
_CLOUD_INIT = {
    "datasource_list": ["NoCloud", "None"],
    "network": {"config": "disabled"},
    "preserve_hostname": True,
    "disable_root": True,
    "ssh_genkeytypes": ["ed25519"],
    "no_ssh_fingerprints": True,
    "cloud_init_modules": ["bootcmd", "write-files", "users-groups", "ssh"],
    "cloud_config_modules": ["set-passwords", "apt-configure", "runcmd"],
    "cloud_final_modules": [
        "package-update-upgrade-install", "scripts-per-once", "scripts-per-boot", "scripts-per-instance",
        "scripts-user", "final-message",
    ],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `docker create` is told."""

    options: tuple[str, ...]
    argv: tuple[str, ...]  # image and command
    files: Files
    variables: Mapping[str, str] = field(default_factory=dict)


def pod(request: MachineRequest) -> Recipe:
    """The tenant's image with the tenant's command; a cloud with an SSH server of its own runs that instead."""
    put = gpu_files(request.gpus, request.name)
    entrypoint, command = request.entrypoint, request.command
    if request.brings_sshd:
        entrypoint, command = ("sh", f"{OWN}/launch"), ()
        keys = "".join(f"{key}\n" for key in request.authorized_keys)
        put = {
            **put,
            f"{OWN}/launch": inside("launch"),
            f"{OWN}/authorized_keys": (keys.encode(), 0o600),
            "/root/onstart.sh": (request.onstart.encode(), 0o700),
        }
    options = ["--publish", "127.0.0.1::22", "--shm-size", "1g"]
    if entrypoint is not None:
        options += ["--entrypoint", entrypoint[0] if entrypoint else ""]
    return Recipe(
        options=tuple(options),
        argv=(request.image, *(entrypoint or ())[1:], *command),
        files=put,
        variables=request.env,
    )


def vm(request: MachineRequest, image: str, volume: str) -> Recipe:
    """A container that behaves like a host: Docker inside, cloud-init, shutdown. `volume` is its Docker's disk."""
    off = inside("shutdown")
    put = {
        f"{OWN}/init": inside("vm-init"),
        f"{OWN}/metadata": inside("metadata"),
        f"{OWN}/metadata_url": (request.metadata_url.encode(), 0o644),
        **{f"/usr/sbin/{name}": off for name in ("shutdown", "poweroff", "reboot", "halt")},
        "/etc/environment": (f'PATH="{_PATH}"\n'.encode(), 0o644),
        "/etc/cloud/cloud.cfg.d/99_rehearsal.cfg": (json.dumps(_cloud_config(request)).encode(), 0o644),
        f"{_SEED}/meta-data": (json.dumps(_meta_data(request)).encode(), 0o644),
        f"{_SEED}/user-data": (request.user_data.encode(), 0o600),
        **gpu_files(request.gpus, request.name),
    }
    if request.gpus is not None:
        put["/usr/local/bin/nvidia-container-runtime-hook"] = inside("nvidia-container-runtime-hook")
    options = (
        "--publish", "127.0.0.1::22", "--shm-size", "1g", "--tmpfs", "/run:exec", "--hostname", request.name[:63],
        *NESTED, "--mount", f"type=volume,source={volume},target=/var/lib/docker", "--entrypoint", "sh",
    )  # fmt: skip
    return Recipe(options=options, argv=(image, f"{OWN}/init"), files=put)


def gpu_files(gpus: SimulatedGpus | None, machine: str, path: str = NVIDIA_SMI) -> dict[str, tuple[bytes, int]]:
    """nvidia-smi at `path`, and what it shows; nothing for a machine without GPUs."""
    if gpus is None:
        return {}
    name = gpus.name if gpus.name.startswith("SIMULATED") else f"SIMULATED {gpus.name}"
    shown = f"{name}\n{gpus.count}\n{gpus.memory_mb}\n{machine}\n"
    return {path: inside("nvidia-smi"), f"{path}.gpus": (shown.encode(), 0o644)}


def _cloud_config(request: MachineRequest) -> dict[str, object]:
    user = {
        "name": request.user,
        "lock_passwd": True,
        "groups": ["adm", "sudo", "docker"],
        "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
        "shell": "/bin/bash",
    }
    return {**_CLOUD_INIT, "users": ["default"], "system_info": {"default_user": user}}


def _meta_data(request: MachineRequest) -> dict[str, object]:
    keys = list(request.authorized_keys)
    return {"instance-id": request.name, "local-hostname": request.name[:63], "public-keys": keys}


def inside(name: str) -> tuple[bytes, int]:
    return files("providers.rehearsal.machines").joinpath("inside", name).read_bytes(), 0o755
