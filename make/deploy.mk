## Deployment

# The default base of the image is that of deploy/Dockerfile. BASE=debian builds one from Debian packages.
TAG  ?= togetherchat:latest
BASE ?=

image:  ## Build the image, TAG=togetherchat:latest BASE=... (docker or podman)
	BASE=$(BASE) deploy/image/build $(TAG)

lint-image: .venv-lint-image/.ready $(COMPOSE)  ## Check the Dockerfile with hadolint and the compose file against its schema; needs Go
	.venv-lint-image/bin/hadolint deploy/Dockerfile
	cd deploy && $(CURDIR)/$(COMPOSE) compose.yaml > /dev/null

test-image: .venv/.dev  ## Build the image and run it: confined, probed, drained (root; mmdebstrap, podman, runc)
	ENGINE=podman BASE=$(or $(BASE),debian) deploy/image/build togetherchat:test
	deploy/image/test togetherchat:test $(ARGS)

DEPLOY_ENVIRONMENT = TOGETHERCHAT_PYTHON=$(CURDIR)/$(BIN)/python PYTHONPATH=protos:server:clients/python:tests \
    KUSTOMIZE=$(CURDIR)/$(KUSTOMIZE) HELM=$(CURDIR)/$(HELM) KUBE_SCORE=$(CURDIR)/$(KUBE_SCORE)

test-deploy: .venv/.server .venv-deploy/.ready $(KUSTOMIZE) $(HELM) $(KUBE_SCORE)  ## Check manifests and chart against schemas, policies and settings; simulate a rollout; needs Go
	$(DEPLOY_ENVIRONMENT) .venv-deploy/bin/python -m pytest -c tests/deploy/pytest.ini tests/deploy

test-e2e: .venv/.server .venv-deploy/.ready $(KUSTOMIZE) $(HELM) $(GRPCURL)  ## Deploy on a real Kubernetes by the guide's commands and roll out under load (Linux, root, Go)
	mkdir -p .tools/e2e && ln -sf ../$(notdir $(HELM)) .tools/e2e/helm && ln -sf ../$(notdir $(GRPCURL)) .tools/e2e/grpcurl
	$(DEPLOY_ENVIRONMENT) BASE=$(or $(BASE),debian) deploy/e2e/run .venv-deploy/bin/python -m pytest -c tests/deploy/e2e/pytest.ini tests/deploy/e2e

dashboard-picture: .venv/.dev .bench/plots/.ready  ## Draw the dashboard over six minutes of a service with faults; needs Prometheus
	PYTHONPATH=protos:server:clients/python $(BIN)/python deploy/grafana/rehearsal.py docs/observability.png \
	    --draw-with .bench/plots/bin/python $(ARGS)
