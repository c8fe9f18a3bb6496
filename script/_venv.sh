# Sourced by demo, server and test: finds a Python, makes .venv in the clone when there is none, installs Gridpost there.
# In: $0 (a script beside this file). Out: $root, $venv. Must not: touch anything outside the clone.

set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv

# Prints the first interpreter that is Python 3.11 or later and can make an environment; 3.14 and later only when nothing
# else is there, because not every library has wheels for the newest yet.
find_python() {
    for range in '(3, 11) <= v < (3, 14)' 'v >= (3, 14)'; do
        for name in python3 python3.13 python3.12 python3.11 python; do
            command -v "$name" >/dev/null 2>&1 || continue
            if "$name" -c "import sys, venv, ensurepip; v = sys.version_info[:2]; sys.exit(not ($range))" 2>/dev/null; then
                echo "$name"
                return 0
            fi
        done
    done
    echo "Gridpost needs Python 3.11 or later with its venv module; none is on the PATH." >&2
    echo "Install one (on Debian or Ubuntu: apt-get install python3 python3-venv) and run this again." >&2
    return 1
}

# have_gridpost [test]: an environment in which the Gridpost of this clone is installed, with the tests' tools or without.
# A stamp keeps what was installed from which pyproject.toml, so that a change of it installs again.
have_gridpost() {
    extra=${1:-}
    stamp=$venv/.gridpost${extra:+-$extra}
    wanted=$(cksum <"$root/pyproject.toml")" $root"
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null &&
        [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
        return 0
    fi
    if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
        python=$(find_python)
        echo "making .venv with $("$python" -V)" >&2
        "$python" -m venv --clear "$venv"
    fi
    printf 'installing Gridpost%s into .venv, about a minute ' "${extra:+ with what its tests need}" >&2
    (while sleep 2 && kill -0 $$ 2>/dev/null; do printf '.' >&2; done) &
    dots=$!
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root${extra:+[$extra]}" || {
        echo >&2
        echo "pip could not install Gridpost: its message is above. Is the network, or a package mirror, within reach?" >&2
        exit 1
    }
    kill "$dots"
    wait "$dots" 2>/dev/null || true
    echo ' done' >&2
    echo "$wanted" >"$stamp"
    if [ -n "$extra" ]; then echo "$wanted" >"$venv/.gridpost"; fi
}
