# What a developer does in this repository: `make` lists it. The files in make/ hold one group of targets each.
PYTHON ?= python3
BIN    := .venv/bin

export PYTHONDONTWRITEBYTECODE ?= 1

## Everyday

help:  ## List the targets
	@awk -F ':.*## ' '/^## / { print "\n" substr($$0, 4) } \
	    /^[a-z0-9-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.server  ## Serve gRPC on port 50051, HTTP and console on 3000; the sandbox without TOGETHER_API_KEY
	@mkdir -p build; export TOGETHERCHAT_USAGE_DATABASE=$${TOGETHERCHAT_USAGE_DATABASE-sqlite:///build/usage.sqlite}; \
	if [ -n "$$TOGETHER_API_KEY$$TOGETHER_API_KEY_FILE$$TOGETHER_BASE_URL" ]; \
	    then exec $(BIN)/togetherchat-server --http-listen 127.0.0.1:3000 --console $(ARGS); \
	    else exec $(BIN)/togetherchat-server --http-listen 127.0.0.1:3000 --console --sandbox $(ARGS); fi

demo: .venv/.server  ## Start the service, show a call, a stream, a typed error and the models, and stop it
	@clients/python/examples/demo.sh $(BIN)

demo-usage: .venv/.server  ## Serve the console's page Usage on localhost:3000/usage, with 40 days of invented calls
	@PYTHONPATH=protos:server:tests exec $(BIN)/python -m support.demo_usage build/demo-usage

# Compiled test modules are kept: every process would spend five seconds on compiling them.
test: .venv/.dev  ## Run the tests, in a process per core; needs Python alone
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

verify: .venv/.dev .venv-generate/.ready  ## Check style, types, architecture, contract, generated code and locks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/baseline.binpb
	$(MAKE) generate
	git diff --exit-code -- protos typings clients deploy/grafana README.md
	$(BIN)/python $(PIP) check
	$(BIN)/python -m pytest --quiet tests/unit/test_supply.py tests/unit/test_packaging.py

fix: .venv/.dev  ## Repair style and formatting automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

GENERATE = PATH="$(CURDIR)/.venv-generate/bin:$$PATH" python -m grpc_tools.protoc

generate: .venv/.server .venv-generate/.ready  ## Generate Python stubs and types, the blocking client, the lists of reasons and the dashboard
	cd protos && $(GENERATE) -I. --python_out=. --mypy_out=quiet:. togetherchat/v1/*.proto
	cd protos && $(GENERATE) -I. --grpc_python_out=. --mypy_grpc_out=quiet:. togetherchat/v1/*_service.proto
	mkdir -p typings && $(BIN)/python make/health_descriptor.py > .venv-generate/health.binpb
	$(GENERATE) --descriptor_set_in=.venv-generate/health.binpb --mypy_out=quiet:typings grpc_health/v1/health.proto
	$(GENERATE) -I"$$(echo .venv-generate/lib/python*/site-packages)" --mypy_out=quiet:typings \
	    google/rpc/status.proto google/rpc/error_details.proto
	$(BIN)/python clients/python/generate_sync.py
	$(BIN)/python clients/reasons.py
	$(BIN)/python deploy/grafana/dashboard.py > deploy/grafana/togetherchat.json

# Sorted by what they need: Linux alone, then Go, Node, Maven and Cargo, then root with podman and mmdebstrap.
TEST_ALL := faults overload outage soak fuzz test-agents lint-image bench-quick test-sdks test-sdks-compiled test-packages test-typescript-projects test-image test-e2e

test-all:  ## Run what .ci/run leaves out: load, fuzzing, SDKs, image, Kubernetes; an hour (Debian, root, Go)
	make/in-turn $(TEST_ALL)

clean:  ## Remove everything that the targets made
	rm -rf .venv .venv-* .tools .fuzz .bench bench/go/contract dist build tests/sdks/node/node_modules tests/sdks/java/target tests/sdks/rust/target

# Environments. Each holds one lock of requirements/. A lock names every package, so pip resolves nothing: pip 23.2
# rejects an extra that only a dependency asks for (fastapi-sso: pydantic[email]). `pip check` finds what is missing.
PIP         := -m pip --disable-pip-version-check
PIP_INSTALL := $(PIP) install --quiet --require-hashes --no-deps

define environment
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP_INSTALL) $(^:%=-r %)
	$(@D)/bin/python $(PIP) check
	@touch $@
endef

.venv/.server: requirements/server.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) -r requirements/server.txt
	$(BIN)/python $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.server requirements/dev.txt
	$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

.venv-%/.ready: requirements/%.txt
	$(environment)

include make/tools.mk make/tests.mk make/clients.mk make/bench.mk make/deploy.mk make/supply.mk

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*## .*/\1/p' $(MAKEFILE_LIST))
