"""Puts uv into a virtual environment of its own: `python3 get-uv.py DIRECTORY`.

For a machine that has Python 3.11 and nothing else: Debian's python3 comes without pip and without ensurepip, and
then pip's own wheel, which runs from where it lies, is fetched from the package index.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
import venv
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urljoin

WANTED = "uv>=0.9,<1"
INDEX = "https://pypi.org/pypi/pip/json"


def main() -> None:
    target = Path(sys.argv[1]).absolute()
    has_pip = find_spec("ensurepip") is not None
    venv.create(target, with_pip=has_pip, clear=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = ["-m", "pip"] if has_pip else [f"{fetched_pip(Path(scratch))}/pip"]
        install = ["install", "--quiet", "--disable-pip-version-check", WANTED]
        subprocess.run([target / "bin/python", *pip, *install], check=True)


def fetched_pip(folder: Path) -> Path:
    with urllib.request.urlopen(INDEX, timeout=60) as answer:
        [wheel] = [file for file in json.load(answer)["urls"] if file["packagetype"] == "bdist_wheel"]
    path = folder / wheel["filename"]
    with urllib.request.urlopen(urljoin(INDEX, wheel["url"]), timeout=60) as answer:
        path.write_bytes(answer.read())
    return path


if __name__ == "__main__":
    main()
