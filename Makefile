# FireRunner: `make help` lists every verb.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
BENCH ?=
FLINTLOCK ?=
# Files in their order, and not those of few tests last: the longest tests are in such files.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
export FLINTLOCK

PROTO := firerunner/machines/flintlock/proto
PROTO_OUT ?= src
PROTO_CHECK ?=

APT_PACKAGES := apache2-utils busybox-static chromium curl dnsmasq-base docker-compose docker-registry e2fsprogs git git-lfs gnupg iproute2 jq lz4 mmdebstrap nftables openssl pipx podman postgresql procps prometheus prometheus-alertmanager python3-venv \
	qemu-system-x86 shellcheck skopeo socat tinyproxy-bin uidmap umoci unzip zip

.PHONY: help demo test test-flintlock unit lint chaos fuzz hostile soak bench docs reference proto lock sbom dist clean system

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16

demo: $(VENV)/.ready ## Run the whole thing here: a faithful GitLab, real microVMs, seven jobs (ARGS=--json)
	@$(BIN)/firerunner demo $(ARGS)

test: $(VENV)/.ready ## Lint, then every test, two at a time: those without microVMs first (ARGS goes to pytest)
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -m "not vm" $(TWO) $(ARGS) || [ $$? = 5 ]
	$(BIN)/pytest -m vm $(TWO) $(ARGS) || [ $$? = 5 ]

unit: $(VENV)/.ready ## Only the tests that boot no machine
	$(BIN)/pytest -m "not vm" $(ARGS)

test-flintlock: $(VENV)/.ready ## The contract suite and one job on a real host: FLINTLOCK=host:port, see docs/flintlock.md
	@[ -n "$(FLINTLOCK)" ] || { echo "say which host: make test-flintlock FLINTLOCK=host:port; see docs/flintlock.md"; exit 2; }
	$(BIN)/pytest -p no:cacheprovider --timeout 900 $(ARGS) \
		tests/contract/test_drivers.py tests/e2e/test_real_flintlock.py -k "real_flintlock"

hostile: $(VENV)/.ready ## A hostile job next to an honest one, in both network modes (ARGS="--seed 1 --quick"; root for the second)
	@$(BIN)/python -m tests.hostile $(ARGS)

lint: $(VENV)/.ready ## ruff, mypy --strict, import contracts, shellcheck, hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory proto PROTO_OUT="$$(mktemp -d)" PROTO_CHECK=1
	shellcheck $$(git ls-files '*.sh' .ci/run src/firerunner/guest/files)
	$(BIN)/hadolint deploy/docker/Dockerfile

chaos: $(VENV)/.ready ## Kill the service at N points, REAL of them with real microVMs: nothing lost, leaked, run twice (N SEED REAL)
	@$(BIN)/python -m tests.chaos --n $(or $(N),1000) --seed $(or $(SEED),7) --real $(or $(REAL),20)

soak: $(VENV)/.ready ## A long life with faults, under a clock that jumps (JOBS SEED)
	@$(BIN)/python -m tests.soak --jobs $(or $(JOBS),20000) --seed $(or $(SEED),7)

fuzz: $(VENV)/.ready ## Send N hostile requests to the real service's doors: nothing obeyed, broken, lost (N SEED)
	@$(BIN)/python -m tests.fuzz --n $(or $(N),100000) --seed $(or $(SEED),7)

bench: $(VENV)/.ready ## Measure, as ratios within one run (BENCH=pickup for one of them)
	$(BIN)/python -m bench $(BENCH) $(ARGS)

docs: $(VENV)/.ready ## Build the documentation into site/, warnings are errors
	$(BIN)/mkdocs build --strict

reference: $(VENV)/.ready ## Write docs/settings.md, cli.md, api-reference.md and metrics.md out of the code
	$(BIN)/python -m firerunner.settings.reference > docs/settings.md
	$(BIN)/python -m firerunner.telemetry.reference > docs/metrics.md
	$(BIN)/python -m firerunner.cli.reference > docs/cli.md
	$(BIN)/python -m firerunner.web.reference > docs/api-reference.md

proto: $(VENV)/.ready ## Write what speaks to Flintlock out of its .proto files; make lint compares
	$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=$(PROTO_OUT) --pyi_out=$(PROTO_OUT) src/$(PROTO)/*.proto
	@if [ -n "$(PROTO_CHECK)" ]; then for file in $(PROTO_OUT)/$(PROTO)/*_pb2.py*; do \
		cmp "$$file" "src/$(PROTO)/$${file##*/}" || { echo "run: make proto"; rm -r $(PROTO_OUT); exit 1; }; done; rm -r $(PROTO_OUT); fi

lock: $(VENV)/.ready ## Renew requirements/*.lock from pyproject.toml
	$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --no-header -o requirements/run.lock pyproject.toml
	$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --no-header --extra dev -c requirements/run.lock \
		-o requirements/dev.lock pyproject.toml
	$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --no-header --build-deps-for wheel --only-build-deps \
		-c requirements/dev.lock -o requirements/build.lock pyproject.toml

sbom: $(VENV)/.ready ## Write dist/sbom.cdx.json: what the service is made of (CycloneDX, out of requirements/run.lock)
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --sv 1.6 --output-reproducible \
		--validate --of JSON -o dist/sbom.cdx.json requirements/run.lock
	@echo "dist/sbom.cdx.json: $$($(BIN)/python -c 'import json; print(len(json.load(open("dist/sbom.cdx.json"))["components"]))') packages"

dist: $(VENV)/.ready ## Write dist/: wheel, sdist and lock of the last commit, the same bytes each time, and SHA256SUMS
	@scripts/dist.sh $(BIN)/python dist

clean: ## Remove what make made; the demo's images stay in ~/.cache/firerunner (root: /var/cache/firerunner)
	rm -rf $(VENV) .make build dist site bench/out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# What the machine must have. One apt run, only if something is missing; elsewhere than on Debian and Ubuntu it is yours to
# install.
.make/system: Makefile
	@mkdir -p .make
	@command -v apt-get > /dev/null || { echo "no apt here: make sure that there is $(APT_PACKAGES)"; touch $@; exit 0; }; \
	missing=""; for package in $(APT_PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
		sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		scripts/progress.sh "Fetching Debian's package lists" $$sudo apt-get update -q \
			&& scripts/progress.sh "Installing with apt:$$missing" $$sudo env DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -q --no-install-recommends $$missing \
			|| { echo "apt failed: mend it, or install by hand:$$missing"; exit 1; }; \
	fi; \
	touch $@

$(VENV)/.ready: .make/system requirements/dev.lock pyproject.toml
	@[ -x $(BIN)/pip ] || scripts/progress.sh "Making the virtual environment $(VENV)" $(PYTHON) -m venv $(VENV)
	@scripts/progress.sh "Installing Python packages (locked and hashed)" \
		$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@scripts/progress.sh "Installing FireRunner" \
		$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
