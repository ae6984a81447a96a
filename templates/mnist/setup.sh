#!/bin/sh
# Puts in what train.py needs and this machine lacks, with the pip of the python3 in PATH. Safe to run again.
set -eu
cd "$(dirname "$0")"
cpu_index=https://download.pytorch.org/whl/cpu

has() {
    python3 -c "import $1" 2>/dev/null
}

answers() {
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null
}

install() {
    python3 -m pip install --disable-pip-version-check --quiet "$@"
}

if has torch; then
    echo "setup: PyTorch is here"
elif ! nvidia-smi -L >/dev/null 2>&1 && answers "$cpu_index/torch/"; then
    echo "setup: no GPU and no PyTorch: installing its build for CPUs"
    install --extra-index-url "$cpu_index" -r requirements-torch.txt
else
    echo "setup: installing PyTorch"
    install -r requirements-torch.txt
fi

if has numpy && has sklearn; then
    echo "setup: NumPy and scikit-learn are here"
else
    echo "setup: installing NumPy and scikit-learn"
    install -r requirements.txt
fi
