# On a fresh machine with Python 3.11, make, git and g++:
#
#   make reproduce    the whole pipeline; again, and it runs only what changed
#   make test         the rules of the repository, then every test
#   make serve        MLflow, Prefect, a worker and the deployments on this machine, until Ctrl-C
#   make doctor       what is wrong with this checkout and machine, and what to do; FIX=--fix sends what MLflow has not taken
#
# All make .venv from requirements.lock first. An index of packages is named nowhere: pip's and uv's own settings say it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
LOCK := $(shell sha256sum requirements.lock | cut -c1-16)
INSTALLED := .venv/.lock-$(LOCK)
PROFILES := $(basename $(notdir $(wildcard infra/params/*.yaml)))

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help reproduce serve doctor flow test test-quick test-slow lint profile

help:
	@sed -n '1,8p' Makefile

reproduce: $(INSTALLED)
	dvc repro

serve: $(INSTALLED)
	@exec infra/serve.sh

doctor: $(INSTALLED)
	@python fastdrive.py doctor $(FIX)

flow: $(INSTALLED)
	python -m flows.reproduce

test: lint
	python -m pytest -n 2 --dist loadfile

# Starts no process and trains nothing.
test-quick: $(INSTALLED)
	python -m pytest -n 2 --dist loadfile -m "not gpu and not slow and not process"

test-slow: $(INSTALLED)
	python -m pytest -m slow

lint: $(INSTALLED)
	ruff format --check .
	ruff check .
	mypy
	lint-imports

# Puts a profile in the place of params.yaml, unless that would lose an edit that neither git nor a profile holds.
profile:
	@test -f 'infra/params/$(PROFILE).yaml' \
		|| { echo 'expected PROFILE=<$(PROFILES)>, got "$(PROFILE)". To fix: make profile PROFILE=smoke' >&2; exit 2; }
	@kept=$$(git show HEAD:params.yaml | cmp -s - params.yaml && echo yes || true); \
	for profile in infra/params/*.yaml; do cmp -s "$$profile" params.yaml && kept=yes; done; \
	test -n "$$kept" \
		|| { echo 'expected params.yaml as committed, got an edit. To fix: git commit params.yaml, or git checkout params.yaml' >&2; exit 2; }
	cp 'infra/params/$(PROFILE).yaml' params.yaml
	@echo 'back to the default: git checkout params.yaml'

# The stamp comes last: an install that was cut short is done again. uv comes by pip from its own entry in the lock.
$(INSTALLED): requirements.lock
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"expected Python 3.11 or later, got {sys.version.split()[0]}. To fix: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	test -x .venv/bin/pip || '$(PYTHON)' -m venv --clear .venv
	awk '/^[^ #]/ {here = /^uv==/} here' requirements.lock > .venv/uv.lock
	pip install --quiet --no-deps --require-hashes -r .venv/uv.lock
	uv pip install --system-certs --no-deps --require-hashes -r requirements.lock
	uv pip install --quiet --no-deps --no-build-isolation --offline --editable .
	@rm -f .venv/.lock-* && touch $@
