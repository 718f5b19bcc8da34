# `make run` and `make test` need Python 3.11, make and a network to the package index, nothing else.
.PHONY: run test check lock bench soak clean help
PY := .venv/bin/python

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

run: ## set up, start the demo's plane and tell its story (ARGS="--once", ARGS="--scenario environment-deletion")
	@scripts/bootstrap.sh run
	@PYTHONPATH=examples exec $(PY) -m demo $(ARGS)

test: ## set up, then every check and test that needs no system package
	@scripts/bootstrap.sh dev
	@$(MAKE) --no-print-directory check
	$(PY) -m pytest $(ARGS)

check: ## format, lint, types and import contracts
	.venv/bin/ruff format --check -q .
	.venv/bin/ruff check -q .
	.venv/bin/pyright
	.venv/bin/lint-imports --no-cache

lock: ## make every lock file anew
	@scripts/bootstrap.sh dev
	PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/lock.sh

bench: ## measure, and print JSON (ARGS=--quick to see that it runs)
	@scripts/bootstrap.sh dev
	@tests/servers/install.sh bench >&2
	@$(PY) bench $(ARGS)

soak: ## the long ones: 200 kills, the oracle on many more bundles
	@scripts/bootstrap.sh dev
	INTERLOCK_KILLS=200 $(PY) -m pytest tests/fault -q -s
	$(PY) -m pytest tests/property -q --hypothesis-profile=soak

clean: ## remove what was made here
	rm -rf .venv .cache var .pytest_cache .ruff_cache .hypothesis
