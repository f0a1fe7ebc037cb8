# Sourced by up.sh and test.sh: makes a private Python environment from a lock file.
#
# The environment is rebuilt only when the lock file differs from the copy that is kept in it. That
# copy is written last, so an interrupted installation is never taken for a finished one.
# shellcheck shell=sh

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# The newest suitable Python. One that cannot make environments by itself counts only with uv.
find_python() {
    needed='import sys; sys.exit(sys.version_info < (3, 11))'
    found=
    for candidate in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3 python; do
        [ -n "$candidate" ] || continue
        # Version managers leave commands that exist and fail, so each one is tried.
        "$candidate" -c "$needed" >/dev/null 2>&1 || continue
        found=$candidate
        if [ -n "$uv" ] || "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [ -n "$found" ]; then
        version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        die "Python $version is here, but not its venv module. On Debian and Ubuntu:" \
            "apt-get install python${version}-venv (or install uv: https://docs.astral.sh/uv/)."
    fi
    present=$(python3 --version 2>/dev/null) || present="no Python 3"
    die "Ollama Coder needs Python 3.11 or newer; this machine has $present. On Debian and Ubuntu:" \
        "apt-get install python3 python3-venv. A Python elsewhere is named by PYTHON=/path/to/python3."
}

# make_environment DIRECTORY LOCK: afterwards DIRECTORY/bin/python has what LOCK lists.
make_environment() {
    directory=$1 lock=$2
    python=$directory/bin/python
    if cmp -s "$lock" "$directory/installed.lock" && "$python" -c '' 2>/dev/null; then
        return
    fi
    uv=$(command -v uv) || uv=
    base=$(find_python) || exit 1
    say "Installing into ${directory##*/} (${uv:+uv, }$("$base" --version)): about a minute the first time."
    if [ ! -f "$directory/installed.lock" ] || ! "$python" -c '' 2>/dev/null; then
        if [ -n "$uv" ]; then
            rm -rf "$directory"
            "$uv" venv --quiet --python "$base" "$directory"
        else
            "$base" -m venv --clear "$directory"
        fi || die "No environment could be made in $directory."
    fi
    rm -f "$directory/installed.lock"
    if [ -n "$uv" ]; then
        "$uv" pip sync --quiet --compile-bytecode --require-hashes --python "$python" "$lock"
    else
        "$python" -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r "$lock"
    fi || die "The packages of ${lock##*/} could not be installed: see above. Nothing was started."
    cp "$lock" "$directory/installed.lock"
}

# add_alone DIRECTORY LOCK: adds what LOCK lists, and nothing that it depends on.
add_alone() {
    directory=$1 lock=$2
    kept=$directory/${lock##*/}
    if cmp -s "$lock" "$kept" && ! [ "$directory/installed.lock" -nt "$kept" ]; then
        return
    fi
    uv=$(command -v uv) || uv=
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --no-deps --require-hashes --python "$directory/bin/python" -r "$lock"
    else
        "$directory/bin/python" -m pip install --quiet --quiet --disable-pip-version-check \
            --no-deps --require-hashes -r "$lock"
    fi || die "The packages of ${lock##*/} could not be installed: see above. Nothing was started."
    cp "$lock" "$kept"
}
