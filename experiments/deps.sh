#!/bin/sh
# Installs what the machine lacks. Each item is PACKAGE=KIND:WHAT, Debian's package and what shows that it
# is there: a module of pkg-config (pc), a command on the PATH (cmd), or a file (file, may have a *).
#
#   deps.sh ITEM...          installs with apt-get as root or through sudo without a password
#   deps.sh --check ITEM...  installs nothing
#   deps.sh --lists          brings apt-get's lists of packages when there are none: `lcqat fetch` needs them
#
# Where it may not install, one line on stderr says what to type, and the status is 1.
set -eu
export LC_ALL=C

is_there() { # KIND:WHAT
    what=${1#*:}
    case $1 in
    pc:*) command -v pkg-config >/dev/null && pkg-config --exists "$what" ;;
    cmd:*) command -v "$what" >/dev/null ;;
    file:*) for file in $what; do test -e "$file" && return 0; done; return 1 ;;
    *) echo "deps: $1: neither pc:, cmd: nor file:" >&2; exit 2 ;;
    esac
}

missing() { # ITEM... -> the packages to install
    for item; do
        is_there "${item#*=}" || printf ' %s' "${item%%=*}"
    done
}

as_root() { # how a command becomes root's: "", "sudo -n", or failure
    if [ "$(id -u)" = 0 ]; then
        echo
    else
        command -v sudo >/dev/null && sudo -n true 2>/dev/null && echo sudo -n
    fi
}

type_this() { # WHY COMMAND
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null; then set -- "$1" "sudo sh -c '$2'"; else set -- "$1" "su -c '$2'"; fi
    fi
    echo "deps: $1; type: $2" >&2
    exit 1
}

quietly() { # COMMAND...: its output only when it fails
    log=$(mktemp)
    status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] || tail -n 15 "$log" >&2
    rm -f "$log"
    return $status
}

if [ "${1-}" = --lists ]; then
    command -v apt-get >/dev/null || exit 0
    for list in /var/lib/apt/lists/*_Packages*; do
        [ ! -e "$list" ] || exit 0
    done
    root=$(as_root) || type_this "apt-get has no lists of packages" "apt-get update"
    echo "deps: apt-get update"
    # shellcheck disable=SC2086 # root is a command and its option, or nothing
    quietly $root apt-get update || type_this "apt-get update failed" "apt-get update"
    exit 0
fi

check=
if [ "${1-}" = --check ]; then
    check=1
    shift
fi
packages=$(missing "$@")
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null || {
    echo "deps: missing:$packages (names of Debian's packages), and no apt-get; install them" >&2
    exit 1
}
command="apt-get update && apt-get install -y --no-install-recommends$packages"
[ -z "$check" ] || type_this "missing:$packages" "$command"
root=$(as_root) || type_this "missing:$packages" "$command"
echo "deps: installing$packages"
# shellcheck disable=SC2086 # root and packages are lists
{
    quietly $root apt-get update &&
        quietly $root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
            install -y --no-install-recommends $packages
} || type_this "apt-get failed" "$command"
packages=$(missing "$@")
[ -z "$packages" ] || {
    echo "deps: installed, but still not seen:$packages" >&2
    exit 1
}
