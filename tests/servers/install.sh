#!/bin/sh
# Install third-party MCP servers into .cache/servers, from hashed lock files. Does nothing when up to date.
#   install.sh python   mcp-server-git, -time and -sqlite, an environment each: they need different SDK versions
#   install.sh node     server-everything, -filesystem and -memory; needs Node 20 or newer with npm
#   install.sh bench    fastmcp, which the benchmark compares with
set -eu
cd "$(dirname "$0")/../.."
servers=.cache/servers

# up_to_date DIRECTORY SUM: whether the directory was completely installed from exactly these inputs.
up_to_date() { [ -f "$1/.installed" ] && [ "$(cat "$1/.installed")" = "$2" ]; }

python_environment() {
    name=$1 lock=$2 place=$servers/$1
    sum=$({ .venv/bin/python -V; cat "$lock"; } | cksum)
    if up_to_date "$place" "$sum"; then
        echo "$name: up to date"
        return
    fi
    echo "$name: installing $lock into $place"
    .venv/bin/uv venv -q --clear --python .venv/bin/python "$place"
    VIRTUAL_ENV=$PWD/$place .venv/bin/uv pip sync -q --require-hashes "$lock"
    echo "$sum" >"$place/.installed"
}

node_packages() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        echo "the Node servers need Node 20 or newer with npm, and one of both is not on the PATH" >&2
        exit 1
    fi
    major=$(node -p 'process.versions.node.split(".")[0]')
    if [ "$major" -lt 20 ]; then
        echo "the Node servers need Node 20 or newer; $(command -v node) is $(node --version)" >&2
        exit 1
    fi
    place=$servers/node
    sum=$({ echo "$major"; cat tests/servers/package.json tests/servers/package-lock.json; } | cksum)
    if up_to_date "$place" "$sum"; then
        echo "node: up to date"
        return
    fi
    echo "node: installing tests/servers/package-lock.json into $place"
    rm -rf "$place"
    mkdir -p "$place"
    cp tests/servers/package.json tests/servers/package-lock.json tests/servers/.npmrc "$place/"
    # The servers need no install scripts, so none of their dependencies may run any.
    (cd "$place" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    echo "$sum" >"$place/.installed"
}

case ${1:-} in
python | bench)
    [ -x .venv/bin/uv ] || scripts/bootstrap.sh run
    export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never
    mkdir -p "$servers"
    if [ "$1" = bench ]; then
        python_environment bench requirements/bench.txt
    else
        for name in git time sqlite; do
            python_environment "$name" "requirements/servers-$name.txt"
        done
    fi
    ;;
node) node_packages ;;
*)
    echo "usage: tests/servers/install.sh python|node|bench" >&2
    exit 2
    ;;
esac
