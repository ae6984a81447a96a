#!/bin/sh
# Puts in PyTorch where this machine has none, with the pip of the python3 in PATH. Safe to run again.
set -eu
cd "$(dirname "$0")"
index_without_cuda=https://download.pytorch.org/whl/cpu
options="--disable-pip-version-check --quiet"

if python3 -c 'import torch' 2>/dev/null; then
    echo "setup: PyTorch is here"
    exit 0
fi

# The build for CPUs is gigabytes smaller. Where its index does not answer, pip would try it for a long time.
if ! nvidia-smi -L >/dev/null 2>&1 && python3 -c "import urllib.request as web; web.urlopen('$index_without_cuda/torch/', timeout=5)" 2>/dev/null; then
    echo "setup: no GPU and no PyTorch: installing its build for CPUs"
    options="$options --extra-index-url $index_without_cuda"
else
    echo "setup: installing PyTorch"
fi
# shellcheck disable=SC2086  # several words
python3 -m pip install $options -r requirements-torch.txt
