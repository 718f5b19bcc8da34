#!/bin/sh
# Re-make every lock file: hashed, for all platforms, naming no registry.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"; }
grep -o 'uv==[0-9.]*' pyproject.toml | head -1 | compile - -o requirements/uv.txt
compile --extra build --extra demo pyproject.toml -o requirements/run.txt
compile --extra build --extra demo --extra dev pyproject.toml -o requirements/dev.txt
