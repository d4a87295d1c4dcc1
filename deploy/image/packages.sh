# Sourced by the scripts in deploy/image and deploy/e2e. Installs the programs that they need from Debian's packages.

# Debian keeps some programs in /usr/sbin, which is not on the PATH after `su`.
export PATH="$PATH:/usr/sbin:/sbin"

# require NAME FILE=PACKAGE...: installs the package of each FILE (a program, or a path) that is missing.
# NAME starts the messages. Ends the script when a package cannot be installed.
require() {
    local name="$1" pair file missing=() log
    shift
    for pair in "$@"; do
        file="${pair%%=*}"
        command -v "$file" > /dev/null || [[ "$file" == /* && -e "$file" ]] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} != 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        echo "$name: missing on this machine: ${missing[*]} (as root on Debian: apt-get install ${missing[*]})" >&2
        exit 1
    fi
    echo "$name: installing Debian packages: ${missing[*]}" >&2
    log="$(mktemp)"
    # The package lists can be missing, or older than the packages.
    apt_get "$log" install "${missing[@]}" || { apt_get "$log" update && apt_get "$log" install "${missing[@]}"; } || {
        echo "$name: apt-get cannot install ${missing[*]}: $(tail -n 1 "$log") (full output: $log)" >&2
        exit 1
    }
    rm -f "$log"
}

# apt_get LOG WORDS...: runs apt-get without questions.
apt_get() {
    local log="$1"
    shift
    DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >> "$log" 2>&1
}

# unpack PACKAGE FILE FOLDER: copies one file of a package into a folder, without installing the package.
unpack() (
    scratch="$(mktemp -d)" && cd "$scratch" || exit
    trap 'rm -rf "$scratch"' EXIT
    download=(apt-get download -qq -o APT::Sandbox::User=root "$1")
    "${download[@]}" 2> /dev/null || { apt-get update -qq && "${download[@]}"; } || exit
    dpkg -x ./*.deb . && install -m 755 "$2" "$3/"
)
