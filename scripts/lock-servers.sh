#!/bin/sh
# Re-make the lock files of the third-party servers that tests and the benchmark use: hashed, naming no registry.
# After scripts/lock.sh, whose uv and SDK version it takes; needs npm.
set -eu
cd "$(dirname "$0")/.."
export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never
compile() { .venv/bin/uv pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"; }
echo mcp-server-git | compile - -o requirements/servers-git.txt
echo mcp-server-time | compile - -o requirements/servers-time.txt
# Its code is written against the SDK's first major version but does not say so.
printf '%s\n' mcp-server-sqlite 'mcp<2' | compile - -o requirements/servers-sqlite.txt
# The comparison is fair only on the SDK that the plane's own demo uses.
echo fastmcp | compile - -c requirements/dev.txt -o requirements/bench.txt
rm -f tests/servers/package-lock.json
(cd tests/servers && npm install --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error)
if grep -l -e '"resolved"' -e '--index-url' -e '--extra-index-url' requirements/*.txt tests/servers/package-lock.json; then
    echo "the lock files above name a registry" >&2
    exit 1
fi
