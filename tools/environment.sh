# What tools/quickstart and tools/test share: system packages and the virtual environment in .venv.
# To be sourced by bash. Every step that changes the machine is said in one line first, and is left
# out when nothing is missing, so that a second run is instant.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$repository/.venv"

# To build pyfuse3, to mount, and for the commands that the README shows.
packages_to_run=(fuse3 libfuse3-dev pkg-config gcc libc6-dev attr acl rsync)
# For the tests, which put real programs to work on a mount.
packages_to_test=(git sqlite3 vim-tiny tar make strace stress-ng fio e2fsprogs procps mount util-linux
    user-mode-linux kmod dmsetup libeatmydata1 bash-completion zsh fish mandoc man-db groff-base
    systemd dbus libpam-systemd passwd)

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The one run that is not to be had without: a FUSE device that this user may open.
check_fuse() {
    [ -e /dev/fuse ] || fail "/dev/fuse is missing: load the module (modprobe fuse), or start the" \
        "container with --device /dev/fuse --cap-add SYS_ADMIN"
    { : <>/dev/fuse; } 2>/dev/null ||
        fail "/dev/fuse cannot be opened by $(id -un): give access to it, or run this as root"
}

# choose_python: sets $python to the distribution's own where it is new enough, else to that of the
# PATH. The distribution builds its own with profiles (creating a file takes 0.9 of the time), mends it,
# and does not remove it under a service. PYTHON=… in the environment decides otherwise.
choose_python() {
    local candidate
    for candidate in ${PYTHON:-/usr/bin/python3 python3}; do
        python=$(command -v "$candidate") || continue
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && return 0
    done
    [ -n "${python:-}" ] || fail "${PYTHON:-python3} is missing: Python 3.11 or later is needed"
    fail "$python is $("$python" -V 2>&1), 3.11 or later is needed:" \
        "Debian 12 and Ubuntu 24.04 have it, on older ones install one, with pyenv for example"
}

# The packages that python itself needs: a Debian python3 comes without venv and headers.
python_packages() {
    case "$(readlink -f "$python")" in
    /usr/bin/*) printf '%s\n' python3-venv python3-dev ;;
    esac
}

# install_packages NAME…: install those that dpkg does not have.
install_packages() {
    local missing=() name as_root=()
    if ! command -v dpkg-query >/dev/null; then
        say "this is not Debian or Ubuntu: please see to it that you have what these hold: $*"
        return 0
    fi
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "these packages are missing, and there is no sudo; as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing system packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -q >"$log" 2>&1 || show_log_and_fail "apt-get update failed"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 </dev/null ||
        show_log_and_fail "apt-get install failed"
}

show_log_and_fail() {
    tail -n 20 "$log" >&2
    fail "$1; its last lines are above"
}

# prepare EXTRA PACKAGE…: have the packages, and the project with its extra ("" or "[test]") in .venv.
# The stamp names everything that decides what is installed.
prepare() {
    local extra=$1 stamp="$venv/stamp$1" wanted
    shift
    choose_python
    wanted="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)')
$*
$(cat "$repository"/pyproject.toml "$repository"/daemon/*.py "$repository"/daemon/*/*.[ch] "$repository"/artstorefs/*/*.c | sha256sum)"
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0

    log=$(mktemp)
    # shellcheck disable=SC2046  # one word per package
    install_packages "$@" $(python_packages)
    "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        fail "$python has no headers (Python.h): install them, pyfuse3 is compiled"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! same_python; then
        say "making a virtual environment in $venv"
        "$python" -m venv --clear "$venv" >"$log" 2>&1 || show_log_and_fail "python3 -m venv failed"
    fi
    say "installing the project and what it needs into $venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e "$repository$extra" \
        >"$log" 2>&1 </dev/null || show_log_and_fail "pip install failed"
    rm -f "$log"
    printf '%s' "$wanted" >"$stamp"
}

same_python() {
    local program='import sys; print(sys.version, sys.base_prefix)'
    [ "$("$venv/bin/python" -c "$program")" = "$("$python" -c "$program")" ]
}
