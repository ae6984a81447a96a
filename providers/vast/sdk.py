"""The parts of the official `vastai` package that are used: its client, and the functions that know paths and bodies.

The package imports its serverless side, with aiohttp, whenever that can be imported: 0.95 s instead of 0.35 s (vastai
1.9.1, measured 2026-11). It is imported here as if that side were not installed, which the package allows for, and is
then forgotten by the interpreter: whoever imports `vastai` in the same process gets it whole.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_PACKAGE, _SERVERLESS = "vastai", "vastai.serverless"


def _parts(*names: str) -> list[ModuleType]:
    if _PACKAGE in sys.modules:
        return [import_module(f"{_PACKAGE}.api.{name}") for name in names]
    modules: dict[str, Any] = sys.modules
    modules[_SERVERLESS] = None
    try:
        return [import_module(f"{_PACKAGE}.api.{name}") for name in names]
    finally:
        for name in [name for name in modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
            del modules[name]


billing, client, instances, keys, offers = _parts("billing", "client", "instances", "keys", "offers")
