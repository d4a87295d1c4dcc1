# Read by the scripts beside it: which engine there is, and how it must be asked on this machine.

if [ -z "${ENGINE:-}" ]; then
    if command -v docker > /dev/null && docker info > /dev/null 2>&1; then ENGINE=docker; else ENGINE=podman; fi
fi
command -v "$ENGINE" > /dev/null || { echo "neither docker nor podman works here (apt-get install podman runc)" >&2; exit 1; }
if [ "$ENGINE" = podman ]; then
    # Podman would ask for more than a process without CAP_SYS_RESOURCE may have.
    LIMITS=(--ulimit nofile=4096:4096 --ulimit nproc=4096:4096)
    # crun does not run where control groups of both versions are mounted.
    RUNTIME=()
    if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then RUNTIME=(--runtime runc); fi
fi
