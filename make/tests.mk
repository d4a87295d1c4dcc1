## Further tests

SECONDS ?= 60
MINUTES ?= 10
CALLS   ?= 20000

test-tools: .venv/.dev $(GRPCURL) $(GHZ) $(GRPCUI)  ## Run grpcurl, ghz and grpcui against the server; needs Go
	GRPCURL=$(CURDIR)/$(GRPCURL) GHZ=$(CURDIR)/$(GHZ) GRPCUI=$(CURDIR)/$(GRPCUI) $(BIN)/python -m pytest tests/tools

test-redis: .venv/.dev $(REDIS_SERVER)  ## Test quotas that replicas share through a real Redis
	REDIS_SERVER=$(CURDIR)/$(REDIS_SERVER) $(BIN)/python -m pytest tests/replicas

POSTGRES := .tools/postgres

$(POSTGRES)/.ready: tests/usage/install
	tests/usage/install $(@D) && touch $@

test-usage: .venv/.dev $(POSTGRES)/.ready  ## Test the usage ledger with a real PostgreSQL, which is killed, locked and restored
	POSTGRES_PROGRAMS=$(CURDIR)/$(POSTGRES) $(BIN)/python -m pytest --numprocesses auto tests/usage $(ARGS)

PROXIES := .tools/proxies

$(PROXIES)/.ready: tests/proxies/install
	tests/proxies/install $(@D) && touch $@

test-proxies: .venv/.dev $(PROXIES)/.ready  ## Test nginx and HAProxy in front of the server, tinyproxy and Squid behind it
	NGINX=$(CURDIR)/$(PROXIES)/nginx HAPROXY=$(CURDIR)/$(PROXIES)/haproxy TINYPROXY=$(CURDIR)/$(PROXIES)/tinyproxy \
	    SQUID=$(CURDIR)/$(PROXIES)/squid SQUID_DATA=$(CURDIR)/$(PROXIES)/share/squid $(BIN)/python -m pytest tests/proxies

test-observability: .venv/.dev $(PROMTOOL) $(OTEL_COLLECTOR)  ## Check metrics and alerts with promtool, spans with a real collector; needs Go
	PROMTOOL=$(CURDIR)/$(PROMTOOL) OTEL_COLLECTOR=$(CURDIR)/$(OTEL_COLLECTOR) $(BIN)/python -m pytest tests/observability

# Runs the suite of a language in its folder. Without its tool it is left out; with CI set, that fails.
sdk_suite = @if command -v $(2) > /dev/null; then cd tests/sdks/$(1) && mkdir -p $(SDK_RESULTS) && \
    rm -f $(SDK_RESULTS)/$(1).jsonl && export TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python INTEGRATIONS_OUT=$(SDK_RESULTS)/$(1).jsonl && $(3); \
    else echo "tests/sdks/$(1) needs $(2)" >&2; test -z "$$CI"; fi
SDK_RESULTS = $(CURDIR)/build/integrations
SDK_PYTHON = TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python INTEGRATIONS_OUT=$(SDK_RESULTS)/python.jsonl
PAGE_ACTION ?= check
WITH_SERVICE = $(CURDIR)/$(BIN)/python ../with_service.py

test-sdks: .venv/.server .venv-sdks/.ready .venv-sdks-openai2/.ready  ## Run the SDKs for OpenAI's API against the server; in CI needs Node and Maven
	$(call sdk_suite,node,npm,npm ci --silent && npm test)
	$(call sdk_suite,java,mvn,$(WITH_SERVICE) mvn --batch-mode --no-transfer-progress verify)
	@mkdir -p $(SDK_RESULTS) && rm -f $(SDK_RESULTS)/python.jsonl
	$(SDK_PYTHON) .venv-sdks/bin/python -m pytest -c tests/sdks/pytest.ini tests/sdks --ignore tests/sdks/openai2
	$(SDK_PYTHON) .venv-sdks-openai2/bin/python -m pytest -c tests/sdks/pytest.ini tests/sdks/openai2
	$(PYTHON) tests/sdks/integrations.py $(PAGE_ACTION) $(SDK_RESULTS) docs/integrations.md

test-sdks-compiled: .venv/.server  ## Run the SDKs of Go and Rust against the server, which takes minutes to compile; needs Go and Cargo
	$(call sdk_suite,go,go,go vet ./... && $(WITH_SERVICE) go test -count=1 ./...)
	$(call sdk_suite,rust,cargo,$(WITH_SERVICE) ./cargo test --locked)

integrations: test-sdks-compiled  ## Renew docs/integrations.md from what the SDKs' tests prove
	$(MAKE) test-sdks PAGE_ACTION=write

test-agents: .venv/.server .venv-agents/.ready  ## Run the Python client under OpenTelemetry, ddtrace, Sentry and New Relic, gevent and gunicorn
	TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python .venv-agents/bin/python -m pytest -c tests/instrumentation/pytest.ini tests/instrumentation

test-console: .venv/.server .venv-console/.ready  ## Test the console in a headless Chromium, installed by root on Debian; PICTURES=FOLDER
	browser=$$(tests/console/browser) && TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python TOGETHERCHAT_BROWSER=$$browser \
	    PICTURES=$(PICTURES) .venv-console/bin/python -m pytest -c tests/console/pytest.ini tests/console

fuzz: .venv-fuzz/.ready  ## Look for inputs that break the parsers, SECONDS=60 for each parser (x86-64 Linux)
	PYTHONPATH=protos:server:tests .venv-fuzz/bin/python -m fuzz --seconds $(SECONDS) $(ARGS)

soak: .venv/.server  ## Mix calls, cancels and faults for MINUTES=10 and report what is not released (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m soak --minutes $(MINUTES) $(ARGS)

faults: .venv/.dev  ## Print the fault matrix as a table, then run CALLS=20000 random calls and faults, SEED=...
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults $(if $(SEED),--seed $(SEED)) --calls $(CALLS) $(ARGS)

overload: .venv/.dev  ## Offer up to ten times the configured limits; report goodput and rejections (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults.load overload $(ARGS)

fairness: .venv/.dev  ## Offer ten times the capacity as one tenant; report what another notices (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults.fairness $(ARGS)

billing: CALLS = 100000
billing: .venv/.dev  ## Compare the usage ledger with the sandbox's bill after CALLS=100000 calls and a killed worker (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults.billing --calls $(CALLS) $(ARGS)

outage: .venv/.dev  ## Stop the provider for a minute; report retries and recovery (Linux)
	PYTHONPATH=protos:server:tests $(BIN)/python -m faults.load outage $(ARGS)

attack: .venv/.dev  ## Attack a confined service in every way of tests/attack for SECONDS=60 each, and print a table (Linux)
	PYTHONPATH=protos:server:clients/python:tests $(BIN)/python -m attack --seconds $(SECONDS) $(ARGS)
