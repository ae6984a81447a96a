#!/usr/bin/env bash
# Builds the images that container tests use, without any image registry:
#
#   gpujob-test:base    Debian bookworm with python3, venv and OpenSSH's server
#   gpujob-test:bare    base without the SSH server, as most people's images are
#   gpujob-test:torch   base, and PyTorch (CPU), numpy and scikit-learn
#   gpujob-test:vm      base, and what a cloud's machine image has: Docker, cloud-init, sudo, curl
#
#   tests/images/build.sh [base|bare|torch|vm]...      all when none is named
#
# The tag of a built image is the digest of its recipe; an image that is there already is only tagged again.
# Needs Docker, and either root with mmdebstrap, or a registry that has debian:bookworm-slim.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
name=gpujob-test
packages=python3,python3-venv,ca-certificates,procps,openssh-server
vm_packages="docker.io iptables iproute2 sudo curl cloud-init"
python_packages=(torch==2.13.0 numpy==2.4.6 scikit-learn==1.9.1)
cpu_index=https://download.pytorch.org/whl/cpu

main() {
    recipe=$(digest "$here/build.sh" | cut -c1-12)
    ensure base
    [ $# -gt 0 ] || set -- bare torch vm
    for image; do
        case $image in
            base) ;;
            bare | torch | vm) ensure "$image" ;;
            *) echo "build.sh: no such image: $image (there are base, bare, torch and vm)" >&2 && return 2 ;;
        esac
    done
}

ensure() {
    local tag=$name:$1-$recipe
    if ! docker image inspect "$tag" >/dev/null 2>&1; then
        echo "building $name:$1" >&2
        scratch=$(mktemp -d)
        container=
        trap clean_up EXIT
        "build_$1" "$tag"
        clean_up
    fi
    docker tag "$tag" "$name:$1"
}

digest() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi
}

build_base() {
    if [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null; then
        mmdebstrap --quiet --variant=minbase --include="$packages" \
            --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*' \
            bookworm "$scratch/base.tar"
        docker import --change 'CMD ["bash"]' "$scratch/base.tar" "$1" >/dev/null
        return
    fi
    container=$(docker create debian:bookworm-slim sh -c \
        "apt-get update -q && apt-get install -qy --no-install-recommends ${packages//,/ } &&
        rm -f /etc/ssh/ssh_host_*")
    finish "$1"
}

build_bare() {
    container=$(docker create "$name:base" sh -c 'dpkg --purge openssh-server >/dev/null')
    finish "$1"
}

# Users, files and start of such a machine are the rehearsal's own: providers/rehearsal/machines/inside.
build_vm() {
    container=$(docker create --network=host "$name:base" sh -c \
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $vm_packages &&
        apt-get clean && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* /etc/cloud/cloud.cfg.d/*dpkg*")
    finish "$1"
}

# Installed here and copied in, so that pip uses this machine's own settings (mirrors, certificates, cache).
build_torch() {
    local site=$scratch/site
    python3 -m venv "$scratch/pip"
    "$scratch/pip/bin/python" -m pip install -qq --no-compile --disable-pip-version-check --only-binary=:all: \
        --python-version 3.11 --target "$site" $(cpu_option) "${python_packages[@]}"
    trim "$site"
    # The import proves the image and leaves compiled modules behind, which halves the time of the next one.
    container=$(docker create "$name:base" python3 -c 'import torch.optim, sklearn.datasets')
    docker cp "$site/." "$container:/usr/local/lib/python3.11/dist-packages" >/dev/null 2>&1
    finish "$1"
}

# PyTorch's own index has builds without CUDA, some gigabytes smaller; pip is slow to give up on an index that is away.
cpu_option() {
    if python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' "$cpu_index/torch/" 2>/dev/null; then
        echo "--extra-index-url $cpu_index"
    fi
}

trim() {
    rm -rf "$1"/torch/{test,include} "$1"/bin
    find "$1/torch/bin" -type f ! -name torch_shm_manager -delete
    find "$1" -type d -name tests -prune -exec rm -rf {} +
    if command -v strip >/dev/null; then
        strip --strip-unneeded "$1/torch/lib/libtorch_cpu.so"
    fi
}

# Runs the prepared container to its end and keeps it as an image.
finish() {
    docker start --attach "$container" >&2
    docker commit --change 'CMD ["bash"]' --change 'ENV OMP_NUM_THREADS=1' "$container" "$1" >/dev/null
}

clean_up() {
    rm -rf "$scratch"
    [ -z "$container" ] || docker rm --force --volumes "$container" >/dev/null
    container=
}

main "$@"
