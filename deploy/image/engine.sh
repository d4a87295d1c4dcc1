# Sourced by the scripts beside it. Sets ENGINE to docker or podman, and RUNTIME and LIMITS to the options that podman
# needs on this machine. Installs podman on Debian when neither engine works.
. deploy/image/packages.sh

reason=""
if [ -z "${ENGINE:-}" ]; then
    if command -v docker > /dev/null && docker info > /dev/null 2>&1; then
        ENGINE=docker
    else
        ENGINE=podman reason=" (no docker daemon answers)"
    fi
fi
LIMITS=() RUNTIME=()
if [ "$ENGINE" = podman ]; then
    # Podman's own limits exceed what a process without CAP_SYS_RESOURCE may set.
    LIMITS=(--ulimit nofile=4096:4096 --ulimit nproc=4096:4096)
    needed=(podman=podman)
    # crun does not run where control groups of both versions are mounted.
    if [ -d /sys/fs/cgroup ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
        needed+=(runc=runc)
        RUNTIME=(--runtime runc)
    fi
    require "image$reason" "${needed[@]}"
elif ! command -v "$ENGINE" > /dev/null; then
    echo "image: ENGINE=$ENGINE is not on the PATH (unset ENGINE to use docker or podman)" >&2
    exit 1
fi
