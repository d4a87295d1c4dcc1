## Benchmarks

# The tools and the peers are pinned and installed below .bench/.
BENCH        := .venv/.dev .bench/.built $(H2LOAD)
BENCH_PYTHON := PYTHONPATH=.:protos:server:clients/python H2LOAD=$(CURDIR)/$(H2LOAD) GHZ=$(CURDIR)/$(GHZ) \
    VEGETA=$(CURDIR)/$(VEGETA) $(BIN)/python
PEERS        := $(addprefix .bench/,litellm/.ready smg/.ready $(if $(shell command -v npm),portkey/.ready))

bench: $(BENCH) $(GHZ) $(VEGETA) $(PEERS) .bench/plots/.ready  ## Compare costs with a bare handler, a Go translator and peers, ARGS="--figures unary" (Linux; needs Go)
	$(BENCH_PYTHON) -m bench $(ARGS)
	.bench/plots/bin/python bench/plots.py bench/out/results.json

bench-quick: $(BENCH)  ## Measure the service, the bare handler and the upstream in two minutes (Linux; needs Go)
	$(BENCH_PYTHON) -m bench --quick $(ARGS)

bench-guard: $(BENCH)  ## Fail if calls take too much CPU time, or paced streams starve or fail (Linux; needs Go)
	cd bench/go && ! gofmt -l streams translator upstream | grep . && go vet ./... && go test ./...
	$(BENCH_PYTHON) -m bench.guard

bench-publish:  ## Write the last run of `make bench` into bench/RESULTS.md and bench/history.jsonl
	$(BENCH_PYTHON) -m bench.history

bench-handshakes: .venv/.dev  ## Measure new TLS connections, with and without session resumption
	$(BENCH_PYTHON) -m bench.handshakes $(ARGS)

bench-streamsize: $(BENCH)  ## Show which code holds the memory of an open stream (Linux; needs Go)
	$(BENCH_PYTHON) -m bench.streamsize $(ARGS)

bench-http2: .bench/http2/.ready  ## Compare HTTP/1.1 and HTTP/2 to the provider in a minute
	PYTHONPATH=.:protos:server .bench/http2/bin/python -m bench.http2 $(ARGS)

.bench/.built: .venv-generate/.ready $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC) bench/go/go.mod $(wildcard bench/go/*/*.go protos/togetherchat/v1/*.proto)
	mkdir -p .bench/bin bench/go/contract
	.venv-generate/bin/python -m grpc_tools.protoc -Iprotos \
	    --plugin=protoc-gen-go=$(PROTOC_GEN_GO) --go_out=paths=source_relative:bench/go/contract \
	    --plugin=protoc-gen-go-grpc=$(PROTOC_GEN_GO_GRPC) --go-grpc_out=paths=source_relative:bench/go/contract \
	    protos/togetherchat/v1/*.proto
	cd bench/go && go build -o ../../.bench/bin/ ./upstream ./translator ./streams
	@touch $@

.bench/%/.ready: bench/requirements/%.txt
	$(environment)

# The benchmark of HTTP/2 also needs the libraries of the server.
.bench/http2/.ready: requirements/server.txt

.bench/portkey/.ready: bench/portkey/package.json bench/portkey/package-lock.json
	mkdir -p $(@D) && cp $^ $(@D) && npm ci --prefix $(@D) --no-fund --no-audit
	@touch $@
