#!/bin/sh
# Set up .venv from a hashed lock file: `bootstrap.sh run` or `bootstrap.sh dev`. Does nothing when up to date.
set -eu
cd "$(dirname "$0")/.."
want=${1:?run or dev}
lock=requirements/$want.txt
stamp=.venv/.synced

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "interlock needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2
    exit 1
}

# The larger environment serves the smaller purpose too.
digest() { cat requirements/uv.txt "$1" pyproject.toml | cksum | tr ' ' -; }
if [ -f "$stamp" ]; then
    read -r have sum <"$stamp" || true
    if [ "$sum" = "$(digest "requirements/$have.txt")" ] && { [ "$have" = "$want" ] || [ "$have" = dev ]; }; then
        exit 0
    fi
    # An environment that was made for development stays one.
    if [ "$have" = dev ]; then
        want=dev lock=requirements/dev.txt
    fi
fi

python=$(find_python)
if [ ! -x .venv/bin/python ]; then
    echo "making .venv with $python" >&2
    "$python" -m venv .venv || {
        echo "python's venv module is missing; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 VIRTUAL_ENV="$PWD/.venv"
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install -q --require-hashes --no-deps -r requirements/uv.txt
echo "installing $lock" >&2
.venv/bin/uv pip sync -q --require-hashes "$lock"
.venv/bin/uv pip install -q --no-deps --no-build-isolation -e .
echo "$want $(digest "$lock")" >"$stamp"
