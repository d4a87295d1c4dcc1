# Everything a person does here. `make` alone lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TOOLS  := .venv-generate
FUZZER := .venv-fuzz
SDKS   := .venv-sdks
SUPPLY := .venv-supply
BILLED := .venv-billed
CONSOLE := .venv-console
GRPCURL_VERSION := v1.9.4
BENCH  := .bench
PIP     = $(BIN)/python -m pip --disable-pip-version-check

export PYTHONDONTWRITEBYTECODE ?= 1

.DEFAULT_GOAL := help
.PHONY: help run demo test test-tools test-sdks fuzz soak faults overload outage bench bench-quick bench-guard verify fix generate lock release clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

$(VENV)/.server: requirements/server.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements/server.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements/dev.txt
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(TOOLS)/.ready: requirements/generate.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/generate.txt
	@touch $@

run: $(VENV)/.server  ## Serve gRPC on localhost:50051, HTTP and a console on localhost:3000: Together with a key in TOGETHER_API_KEY, else the sandbox
	@if [ -n "$$TOGETHER_API_KEY$$TOGETHER_API_KEY_FILE$$TOGETHER_BASE_URL" ]; \
	    then exec $(BIN)/togetherchat-server --http 127.0.0.1:3000 --console $(ARGS); \
	    else exec $(BIN)/togetherchat-server --http 127.0.0.1:3000 --console --sandbox $(ARGS); fi

demo: $(VENV)/.server  ## Start, chat, stream, show a typed error and the models, stop
	@clients/python/examples/demo.sh $(BIN)

# Compiled test modules are kept: every process would spend five seconds on compiling them.
test: $(VENV)/.dev  ## Run the tests, in a process per core; needs Python alone
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

test-tools: $(VENV)/.dev .tools/grpcurl .tools/ghz .tools/grpcui  ## Run grpcurl, ghz and grpcui against the server; needs Go
	GRPCURL=$(CURDIR)/.tools/grpcurl GHZ=$(CURDIR)/.tools/ghz GRPCUI=$(CURDIR)/.tools/grpcui $(BIN)/python -m pytest tests/tools

.PHONY: test-redis
test-redis: $(VENV)/.dev .tools/redis-server  ## Run the tests of limits that replicas share, with a real Redis
	REDIS_SERVER=$(CURDIR)/.tools/redis-server $(BIN)/python -m pytest tests/replicas

.tools/redis-server:
	tests/replicas/install-redis .tools

.PHONY: test-typescript
test-typescript: $(VENV)/.server $(TOOLS)/.ready  ## Check and test the TypeScript client against the server; needs Node 20
	cd clients/typescript && npm ci && ./generate.sh --check && npm run check && npm test

.PHONY: test-java
test-java: $(VENV)/.server  ## Build and test the Java client; needs a JDK 17 and Maven
	TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python mvn --batch-mode --no-transfer-progress --file clients/java/pom.xml verify

.PHONY: test-observability
test-observability: $(VENV)/.dev .tools/promtool .tools/otel-collector  ## Let Prometheus's promtool read metrics, alerts and queries, and OpenTelemetry's collector take spans; needs Go
	PROMTOOL=$(CURDIR)/.tools/promtool OTEL_COLLECTOR=$(CURDIR)/.tools/otel-collector $(BIN)/python -m pytest tests/observability

.PHONY: dashboard-picture
dashboard-picture: $(VENV)/.dev $(BENCH)/.peers  ## Draw the dashboard over six minutes of a service with mishaps; needs Prometheus
	PYTHONPATH=protos:server:clients/python $(BIN)/python deploy/grafana/rehearsal.py docs/observability.png \
	    --draw-with $(BENCH)/plots/bin/python $(ARGS)

.tools/promtool:
	deploy/prometheus/install-promtool .tools

# Of modules: two minutes on two cores where nothing of it has been built before.
.tools/otel-collector: $(wildcard tests/observability/collector/*)
	cd tests/observability/collector && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .

.tools/grpcurl:
	GOBIN=$(CURDIR)/.tools go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)

$(SDKS)/.ready: requirements/sdks.txt tests/sdks/node/package-lock.json
	$(PYTHON) -m venv $(SDKS)
	$(SDKS)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/sdks.txt
	@if command -v npm > /dev/null; then cd tests/sdks/node && npm ci --silent; fi
	@touch $@

test-sdks: $(VENV)/.server $(SDKS)/.ready  ## Run the clients of OpenAI's API as they are installed; with Node, its clients too
	TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python $(SDKS)/bin/python -m pytest -c tests/sdks/pytest.ini tests/sdks
	@if command -v npm > /dev/null; then cd tests/sdks/node && TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python npm test; fi

$(CONSOLE)/.ready: requirements/console.txt
	$(PYTHON) -m venv $(CONSOLE)
	$(CONSOLE)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/console.txt
	@touch $@

.PHONY: test-console
test-console: $(VENV)/.server $(CONSOLE)/.ready  ## Try the console in a headless Chromium (on Debian root is given one); PICTURES=FOLDER takes its pictures
	browser=$$(tests/console/browser) && TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python TOGETHERCHAT_BROWSER=$$browser PICTURES=$(PICTURES) \
	    $(CONSOLE)/bin/python -m pytest -c tests/console/pytest.ini tests/console

SECONDS ?= 60
MINUTES ?= 10
CALLS   ?= 20000

$(FUZZER)/.ready: requirements/fuzz.txt
	$(PYTHON) -m venv $(FUZZER)
	$(FUZZER)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(FUZZER)/.ready  ## Look for inputs that break the parsers, SECONDS=60 for each of them (x86-64 Linux)
	PYTHONPATH=protos:server:tests $(FUZZER)/bin/python -m fuzz --seconds $(SECONDS) $(ARGS)

soak: $(VENV)/.server  ## Mix calls, cancels and faults for MINUTES=10, and see what stays behind (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m soak --minutes $(MINUTES) $(ARGS)

faults: $(VENV)/.dev  ## Act out the fault matrix as a table, then CALLS=20000 seeded calls and faults, SEED=...
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults $(if $(SEED),--seed $(SEED)) --calls $(CALLS) $(ARGS)

overload: $(VENV)/.dev  ## Offer up to ten times of what the bounds let through: goodput and refusals (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults.load overload $(ARGS)

outage: $(VENV)/.dev  ## Take the upstream away for a minute: retries meanwhile, and the way back (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults.load outage $(ARGS)

# What the benchmark measures with and against, each in a place of its own, all of it pinned.
BENCH_PYTHON = PYTHONPATH=.:protos:server:clients/python $(BIN)/python
BENCH_INSTALL = GOBIN=$(CURDIR)/$(BENCH)/bin go install
BENCH_VENV = $(PYTHON) -m venv $(BENCH)/$(1) && \
    $(BENCH)/$(1)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r bench/requirements/$(1).txt

$(BENCH)/.rig: $(VENV)/.server $(TOOLS)/.ready bench/install-h2load bench/go/go.mod $(wildcard bench/go/*/*.go protos/togetherchat/v1/*.proto)
	mkdir -p $(BENCH)/bin bench/go/contract
	bench/install-h2load $(BENCH)/bin
	$(BENCH_INSTALL) google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10
	$(BENCH_INSTALL) google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1
	PATH="$(CURDIR)/$(BENCH)/bin:$$PATH" $(TOOLS)/bin/python -m grpc_tools.protoc -Iprotos \
	    --go_out=paths=source_relative:bench/go/contract --go-grpc_out=paths=source_relative:bench/go/contract \
	    protos/togetherchat/v1/*.proto
	cd bench/go && go build -o ../../$(BENCH)/bin/ ./upstream ./translator ./streams
	@touch $@

$(BENCH)/.peers: $(wildcard bench/requirements/*.txt) bench/portkey/package-lock.json | $(BENCH)/.rig
	$(BENCH_INSTALL) github.com/bojand/ghz/cmd/ghz@v0.120.0
	$(BENCH_INSTALL) github.com/tsenart/vegeta/v12@v12.12.0
	$(call BENCH_VENV,plots)
	$(call BENCH_VENV,smg)
	$(call BENCH_VENV,litellm)
	@if command -v npm > /dev/null; then mkdir -p $(BENCH)/portkey && \
	    cp bench/portkey/package.json bench/portkey/package-lock.json $(BENCH)/portkey && \
	    npm ci --prefix $(BENCH)/portkey --no-fund --no-audit; else echo "bench: no Node, so no Portkey"; fi
	@touch $@

bench: $(BENCH)/.peers  ## Measure against a floor, a limit and the peers, ARGS="--figures unary" (Linux; needs Go)
	$(BENCH_PYTHON) -m bench $(ARGS)
	$(BENCH)/plots/bin/python bench/plots.py bench/out/results.json

bench-quick: $(BENCH)/.rig  ## Measure the service, the floor and the upstream, in two minutes
	$(BENCH_PYTHON) -m bench --quick $(ARGS)

.PHONY: bench-handshakes
bench-handshakes: $(VENV)/.dev  ## Measure new connections over TLS, with sessions and without
	$(BENCH_PYTHON) -m bench.handshakes $(ARGS)

.PHONY: bench-streamsize
bench-streamsize: $(BENCH)/.rig  ## Say what the memory of an open stream is made of (Linux)
	$(BENCH_PYTHON) -m bench.streamsize $(ARGS)

.PHONY: bench-http2
bench-http2: $(BENCH)/http2/.ready  ## Measure HTTP/1.1 and HTTP/2 towards the provider, a minute
	PYTHONPATH=.:protos:server $(BENCH)/http2/bin/python -m bench.http2 $(ARGS)

$(BENCH)/http2/.ready: requirements/server.txt bench/requirements/http2.txt
	$(PYTHON) -m venv $(BENCH)/http2
	$(BENCH)/http2/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes \
	    -r requirements/server.txt -r bench/requirements/http2.txt
	@touch $@

bench-guard: $(BENCH)/.rig  ## Compare the CPU of the hot path with the floor's: no clock, so it suits CI
	$(BENCH_PYTHON) -m bench.guard

verify: $(VENV)/.dev $(TOOLS)/.ready  ## Check style, types, architecture, contract, generated code, locked dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/baseline.binpb
	$(MAKE) generate
	git diff --exit-code -- protos typings clients deploy/grafana
	$(PIP) check
	$(BIN)/python -m pytest --quiet tests/unit/test_supply.py tests/unit/test_packaging.py

fix: $(VENV)/.dev  ## Mend what a machine can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

PROTOC = PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" python -m grpc_tools.protoc

generate: $(VENV)/.server $(TOOLS)/.ready  ## Generate the contract's Python code, the blocking client, types for google.rpc and grpc.health
	cd protos && $(PROTOC) -I. --python_out=. --mypy_out=quiet:. togetherchat/v1/*.proto
	cd protos && $(PROTOC) -I. --grpc_python_out=. --mypy_grpc_out=quiet:. togetherchat/v1/chat_service.proto
	mkdir -p typings && $(BIN)/python -c "$$DESCRIBE_HEALTH" > $(TOOLS)/health.binpb
	$(PROTOC) --descriptor_set_in=$(TOOLS)/health.binpb --mypy_out=quiet:typings grpc_health/v1/health.proto
	$(BIN)/python clients/python/generate_sync.py
	$(BIN)/python deploy/grafana/dashboard.py > deploy/grafana/togetherchat.json
	$(PROTOC) -I$(wildcard $(TOOLS)/lib/python*/site-packages) --mypy_out=quiet:typings \
	    google/rpc/status.proto google/rpc/error_details.proto

# grpcio-health-checking ships no .proto file: its descriptor says the same.
define DESCRIBE_HEALTH
import sys
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
files = descriptor_pb2.FileDescriptorSet()
health_pb2.DESCRIPTOR.CopyToProto(files.file.add())
sys.stdout.buffer.write(files.SerializeToString())
endef
export DESCRIBE_HEALTH

.PHONY: test-go generate-go
PROTOC_GEN_GO_VERSION      := v1.36.11
PROTOC_GEN_GO_GRPC_VERSION := v1.6.0
GO_GENERATED               := clients/go/togetherchat/v1 clients/go/togetherchat/service_config.json

test-go: $(VENV)/.server generate-go  ## Check and run the Go client against the server; needs Go
	git diff --exit-code -- $(GO_GENERATED)
	test -z "$$(git ls-files --others --exclude-standard -- $(GO_GENERATED) | tee /dev/stderr)"
	cd clients/go && test -z "$$(gofmt -l . | tee /dev/stderr)" && go mod verify && go mod tidy -diff && go vet ./...
	cd clients/go && TOGETHERCHAT_PYTHON="$${TOGETHERCHAT_PYTHON:-$(CURDIR)/$(BIN)/python}" go test -count=1 ./...

generate-go: $(TOOLS)/.ready .tools/protoc-gen-go-$(PROTOC_GEN_GO_VERSION) .tools/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION)  ## Generate the Go stubs, and copy the service config beside them; needs Go
	clients/go/generate.sh .tools/protoc-gen-go-$(PROTOC_GEN_GO_VERSION) .tools/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION)

# Their versions are in their names, so that a pin that moves is a file that is missing.
.tools/protoc-gen-go-v%:
	GOBIN=$(CURDIR)/.tools go install google.golang.org/protobuf/cmd/protoc-gen-go@v$*
	mv .tools/protoc-gen-go $@

.tools/protoc-gen-go-grpc-v%:
	GOBIN=$(CURDIR)/.tools go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v$*
	mv .tools/protoc-gen-go-grpc $@

lock:  ## Renew the locked dependencies (hashes, no addresses)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet uv
	$(LOCK) requirements/server.txt pyproject.toml --extra server --extra cli --group build
	$(LOCK) requirements/dev.txt pyproject.toml --extra server --extra cli --extra redis --group build --group dev
	$(LOCK) requirements/image.txt --constraint requirements/server.txt --constraint requirements/telemetry.txt --constraint requirements/dev.txt pyproject.toml --extra server --extra redis --extra telemetry
	$(LOCK) requirements/build.txt --constraint requirements/server.txt --group build
	$(LOCK) requirements/telemetry.txt pyproject.toml --extra server --extra cli --extra telemetry --group build --constraint requirements/server.txt
	$(LOCK) requirements/fuzz.txt pyproject.toml --extra server --group fuzz
	$(LOCK) requirements/sdks.txt --group sdks
	$(LOCK) requirements/supply.txt --group supply
	$(LOCK) requirements/console.txt --group console
	$(LOCK) requirements/generate.txt --group generate
	$(LOCK) requirements/deploy.txt --group deploy
	$(LOCK) deploy/image/lint.txt deploy/image/lint.in
	for peer in litellm smg plots http2; do $(LOCK) bench/requirements/$$peer.txt bench/requirements/$$peer.in || exit; done

LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header
LOCK        = .venv-lock/bin/uv pip compile $(LOCK_FLAGS) --output-file

release: $(VENV)/.dev  ## Renew the baseline that `buf breaking` compares with, and the descriptor set
	$(BIN)/buf build --output protos/baseline.binpb
	$(BIN)/python clients/descriptor_set.py
	$(MAKE) sbom

.PHONY: audit sbom licences
$(SUPPLY)/.ready: requirements/supply.txt
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/supply.txt
	@touch $@

audit: $(SUPPLY)/.ready  ## Ask a service of advisories about what is locked; fails too where it does not answer
	$(SUPPLY)/bin/python requirements/audit.py $(wildcard requirements/*.txt)

# Of what a server is installed from, telemetry included, in an environment that holds nothing else.
sbom: $(SUPPLY)/.ready  ## Write the bill of materials of a server, dist/togetherchat.cdx.json (CycloneDX 1.6)
	rm -rf $(BILLED) && $(PYTHON) -m venv --without-pip $(BILLED) && mkdir -p dist
	$(SUPPLY)/bin/python -m pip --disable-pip-version-check --python $(BILLED)/bin/python install --quiet --require-hashes \
	    -r requirements/telemetry.txt
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --spec-version 1.6 --validate \
	    --output-file dist/togetherchat.cdx.json $(BILLED)/bin/python
	rm -rf $(BILLED)

licences: $(VENV)/.dev  ## Renew docs/licences.md
	$(BIN)/python requirements/licences.py > docs/licences.md

# What only these targets need. Maven has protoc with its generators for C#, Ruby, PHP, Java and Kotlin.
GHZ_VERSION       := v0.120.0
PROTOC_VERSION    := 4.33.0
GRPC_JAVA_VERSION := 1.76.0

.PHONY: test-clients
test-clients: $(VENV)/.dev  ## Run every client that this machine has the tools for against the server, by one list
	@if command -v mvn > /dev/null; then $(MAKE) .tools/protoc .tools/protoc-gen-grpc-java; fi
	CLIENTS=all $(BIN)/python -m pytest tests/clients

# What renders, checks and scores the manifests: an environment and tools of their own. This kustomize is
# the newest that Go 1.26 builds.
DEPLOY             := .venv-deploy
KUSTOMIZE_VERSION  := v5.8.1
HELM_VERSION       := v3.22.0
KUBE_SCORE_VERSION := v1.20.0

$(DEPLOY)/.ready: requirements/deploy.txt
	$(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/deploy.txt
	@touch $@

.PHONY: test-deploy
test-deploy: $(VENV)/.server $(DEPLOY)/.ready .tools/kustomize-$(KUSTOMIZE_VERSION) .tools/helm-$(HELM_VERSION) .tools/kube-score-$(KUBE_SCORE_VERSION)  ## Render manifests and chart, hold them to schemas, policies and settings, act a rollout out; needs Go
	KUSTOMIZE=$(CURDIR)/.tools/kustomize-$(KUSTOMIZE_VERSION) HELM=$(CURDIR)/.tools/helm-$(HELM_VERSION) \
	    KUBE_SCORE=$(CURDIR)/.tools/kube-score-$(KUBE_SCORE_VERSION) \
	    TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python PYTHONPATH=protos:server:clients/python:tests \
	    $(DEPLOY)/bin/python -m pytest -c tests/deploy/pytest.ini tests/deploy

.PHONY: test-e2e
test-e2e: $(VENV)/.server $(DEPLOY)/.ready .tools/kustomize-$(KUSTOMIZE_VERSION) .tools/helm-$(HELM_VERSION) .tools/grpcurl  ## Bring up a real Kubernetes, deploy by the guide's lines, roll out under load (Linux, root, Go)
	mkdir -p .tools/e2e && ln -sf ../helm-$(HELM_VERSION) .tools/e2e/helm
	KUSTOMIZE=$(CURDIR)/.tools/kustomize-$(KUSTOMIZE_VERSION) HELM=$(CURDIR)/.tools/helm-$(HELM_VERSION) \
	    TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python PYTHONPATH=protos:server:clients/python:tests BASE=$(BASE) \
	    deploy/e2e/run $(DEPLOY)/bin/python -m pytest -c tests/deploy/e2e/pytest.ini tests/deploy/e2e

.tools/kustomize-v%:
	GOBIN=$(CURDIR)/.tools go install sigs.k8s.io/kustomize/kustomize/v5@v$*
	mv .tools/kustomize $@

.tools/helm-v%:
	GOBIN=$(CURDIR)/.tools go install helm.sh/helm/v3/cmd/helm@v$*
	mv .tools/helm $@

.tools/kube-score-v%:
	GOBIN=$(CURDIR)/.tools go install github.com/zegl/kube-score/cmd/kube-score@v$*
	mv .tools/kube-score $@

PLATFORM = $(shell uname -s | sed 's/Darwin/osx/; s/Linux/linux/')-$(shell uname -m | sed 's/aarch64\|arm64/aarch_64/')
MVN_COPY = mvn --batch-mode --quiet dependency:copy -DoutputDirectory=$(CURDIR)/.tools -Dartifact

.tools/protoc:
	$(MVN_COPY)=com.google.protobuf:protoc:$(PROTOC_VERSION):exe:$(PLATFORM)
	install -m 755 .tools/protoc-$(PROTOC_VERSION)-$(PLATFORM).exe $@

.tools/protoc-gen-grpc-java:
	$(MVN_COPY)=io.grpc:protoc-gen-grpc-java:$(GRPC_JAVA_VERSION):exe:$(PLATFORM)
	install -m 755 .tools/protoc-gen-grpc-java-$(GRPC_JAVA_VERSION)-$(PLATFORM).exe $@

.tools/ghz:
	GOBIN=$(CURDIR)/.tools go install github.com/bojand/ghz/cmd/ghz@$(GHZ_VERSION)

.tools/grpcui: tests/tools/grpcui/go.mod
	cd tests/tools/grpcui && go build -o $(CURDIR)/$@ github.com/fullstorydev/grpcui/cmd/grpcui

clean:  ## Remove what the targets made
	rm -rf $(VENV) $(TOOLS) $(FUZZER) $(SDKS) $(CONSOLE) $(DEPLOY) $(SUPPLY) $(BILLED) dist .venv-lock .venv-image .tools .fuzz $(BENCH) bench/go/contract build tests/sdks/node/node_modules

# By default from the base that deploy/Dockerfile names. BASE=debian makes one of Debian's packages.
TAG  ?= togetherchat:latest
BASE ?=
.PHONY: image test-image
image:  ## Build the image, TAG=togetherchat:latest BASE=... (needs docker or podman)
	BASE=$(BASE) deploy/image/build $(TAG)

test-image: $(VENV)/.dev  ## Build the image and run it: confined, probed, drained (root; mmdebstrap, podman, runc)
	ENGINE=podman BASE=$(or $(BASE),debian) deploy/image/build togetherchat:test
	deploy/image/test togetherchat:test $(ARGS)

.PHONY: lint-image
COMPOSE_SCHEMA := github.com/compose-spec/compose-go/v2/cmd@v2.4.9
.venv-image/.ready: deploy/image/lint.txt
	$(PYTHON) -m venv .venv-image
	.venv-image/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r deploy/image/lint.txt
	@touch $@

lint-image: .venv-image/.ready  ## Check the Dockerfile by hadolint, the compose file by its schema; needs Go
	.venv-image/bin/hadolint deploy/Dockerfile
	cd deploy && go run $(COMPOSE_SCHEMA) compose.yaml > /dev/null
