"""The Python that templates are tested with: a virtual environment with PyTorch, made once and kept in the checkout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.own_venv import CHECKOUT, made_once

BENCHMARKS = CHECKOUT / "templates/benchmarks"
MNIST = CHECKOUT / "templates/mnist"
VENV = CHECKOUT / ".venv-templates"
OF_JOBS = ("MNIST", "GPUJOB_", "EPOCHS", "BENCHMARK_")  # variables that change what a template does


@pytest.fixture(scope="session")
def torch_env() -> dict[str, str]:
    """Variables of a shell in which `python3` has what the templates' own setup.sh put in."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OF_JOBS)},
        "PATH": f"{VENV}/bin:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    recipe = b"".join(path.read_bytes() for path in sorted([*MNIST.glob("requirements*.txt"), MNIST / "setup.sh"]))

    def make() -> None:
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=120)
        subprocess.run(["sh", MNIST / "setup.sh"], env=env, check=True, timeout=1800)

    made_once(VENV, recipe + sys.version.encode(), make)
    return env
