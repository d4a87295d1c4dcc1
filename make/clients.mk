## Clients

GO_GENERATED := clients/go/togetherchat/v1 clients/go/togetherchat/service_config.json

test-go: .venv/.server generate-go  ## Check and test the Go client against the server; needs Go
	git diff --exit-code -- $(GO_GENERATED)
	! git ls-files --others --exclude-standard -- $(GO_GENERATED) | grep .
	cd clients/go && ! gofmt -l . | grep . && go mod verify && go mod tidy -diff && go vet ./...
	cd clients/go && TOGETHERCHAT_PYTHON="$${TOGETHERCHAT_PYTHON:-$(CURDIR)/$(BIN)/python}" go test -count=1 ./...

generate-go: .venv-generate/.ready $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC)  ## Generate the Go stubs and copy the service config; needs Go
	clients/go/generate.sh $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC)

test-typescript: .venv/.server .venv-generate/.ready  ## Check and test the TypeScript client against the server; needs Node 20
	cd clients/typescript && npm ci && ./generate.sh --check && npm run check && npm test

test-java: .venv/.server  ## Build and test the Java client against the server; needs a JDK 17 and Maven
	TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python mvn --batch-mode --no-transfer-progress --file clients/java/pom.xml verify

# Build the clients' packages or compile programs, which takes minutes, and have targets of their own.
PACKAGES := tests/clients/test_packages.py tests/clients/test_other_languages.py
PROJECTS := tests/clients/test_typescript_projects.py

test-clients: .venv/.dev  ## Run one list of cases with every client whose tools are installed, and the programs of their pages
	CLIENTS=all $(BIN)/python -m pytest tests/clients $(addprefix --ignore ,$(PACKAGES) $(PROJECTS))

test-packages: .venv/.dev $(if $(shell command -v mvn),$(PROTOC) $(PROTOC_GEN_GRPC_JAVA))  ## Use the clients' packages outside the tree, and the contract from C++, Rust and others
	CLIENTS=all $(BIN)/python -m pytest $(PACKAGES)

test-typescript-projects: .venv/.dev  ## Install the TypeScript package into 18 kinds of projects; needs Node
	CLIENTS=typescript $(BIN)/python -m pytest $(PROJECTS)

protoc: $(PROTOC) $(PROTOC_GEN_GRPC_JAVA)  ## Fetch what buf.gen.yaml generates other languages with; needs Maven

measure-health-checking: .venv/.dev  ## Measure calls with and without gRPC's client-side health checking (Linux)
	PYTHONPATH=protos:server:clients/python:clients:tests $(BIN)/python tests/clients/measure_health_checking.py
