"""Is a machine what was sold? Pure: the probe's facts held against the spec and the offer."""

from __future__ import annotations

import re

from jobs.spec import Spec
from orchestrator.records import Json
from providers.base import GB, Offer, Traits
from providers.gpus import is_same

_DISK_SLACK = 0.9  # a file system is smaller than its disk
_MEMORY_SLACK = 0.9  # the kernel keeps some, and clouds count GB and GiB alike


def shortcoming(spec: Spec, offer: Offer, facts: Json, traits: Traits, *, image: str | None) -> str | None:
    """What is wrong with the machine, in words; None when nothing is."""
    return (
        _python(facts)
        or (_gpus(offer, facts, simulated=traits.simulated) if spec.resources.gpu else None)
        or _too_small("memory", facts.get("memory_bytes"), spec.resources.memory, _MEMORY_SLACK)
        or _too_small("free disk", facts.get("disk_free_bytes"), spec.resources.disk, _DISK_SLACK)
        or _docker(image, facts, traits)
    )


def _python(facts: Json) -> str | None:
    version = str(facts.get("python") or "")
    found = re.match(r"([0-9]{1,3})\.([0-9]{1,3})", version)
    if found is not None and (int(found[1]), int(found[2])) >= (3, 8):
        return None
    return f"its python3 is {version or 'missing'}, 3.8 or newer is needed"


def _gpus(offer: Offer, facts: Json, *, simulated: bool) -> str | None:
    if offer.gpu_count == 0:
        return None
    found = [str(gpu.get("name", "")) for gpu in facts.get("gpus") or []]
    if simulated:  # only there is a GPU that says so taken for what it stands for
        found = [name.removeprefix("SIMULATED ") for name in found]
    right = [name for name in found if offer.gpu is not None and is_same(name, offer.gpu)]
    if len(right) >= offer.gpu_count:
        return None
    if len(found) < offer.gpu_count:
        return f"{len(found)} GPUs found, {offer.gpu_count} were offered"
    return f"it has {', '.join(dict.fromkeys(found))}; {offer.gpu_count} x {offer.gpu} was offered"


def _too_small(what: str, found: object, wanted: int | None, slack: float) -> str | None:
    if wanted is None or not isinstance(found, (int, float)) or found >= wanted * slack:
        return None
    return f"{found / GB:.1f} GB of {what}, {wanted / GB:.1f} GB wanted"


def _docker(image: str | None, facts: Json, traits: Traits) -> str | None:
    """A rented host must run the image; one's own may run the job as a process instead (designs/0003)."""
    if image is None or traits.is_container or traits.owned:
        return None
    docker = facts.get("docker") or {}
    return None if docker.get("ok") else f"Docker does not answer there: {docker.get('error')}"
