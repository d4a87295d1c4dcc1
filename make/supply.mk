## Dependencies and releases

LOCK = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-annotate --no-header --output-file

# Each lock and what it is compiled from. Constraints keep the image at the versions that the tests ran with.
lock: .venv-lock/.ready  ## Renew the locked dependencies (hashes, no addresses)
	$(LOCK) requirements/server.txt        pyproject.toml --extra server --extra cli --extra usage --extra postgres --group build
	$(LOCK) requirements/dev.txt           pyproject.toml --extra server --extra cli --extra redis --extra identity --extra socks --extra usage --extra postgres --group build --group dev
	$(LOCK) requirements/telemetry.txt     pyproject.toml --extra server --extra cli --extra usage --extra postgres --extra telemetry --group build --constraint requirements/server.txt
	$(LOCK) requirements/image.txt         pyproject.toml --extra server --extra redis --extra identity --extra socks --extra usage --extra postgres --extra telemetry --constraint requirements/server.txt --constraint requirements/telemetry.txt --constraint requirements/dev.txt
	$(LOCK) requirements/build.txt         --group build --constraint requirements/server.txt
	$(LOCK) requirements/fuzz.txt          pyproject.toml --extra server --group fuzz
	$(LOCK) requirements/sdks.txt          --group sdks --fork-strategy fewest
	$(LOCK) requirements/sdks-openai2.txt  --group sdks-openai2 --fork-strategy fewest
	$(LOCK) requirements/agents.txt        pyproject.toml --extra server --group agents --constraint requirements/server.txt
	$(LOCK) requirements/supply.txt        --group supply
	$(LOCK) requirements/console.txt       --group console
	$(LOCK) requirements/generate.txt      --group generate
	$(LOCK) requirements/deploy.txt        --group deploy
	$(LOCK) requirements/lint-image.txt    --group lint-image
	$(LOCK) requirements/lock.txt          --group lock
	$(LOCK) bench/requirements/litellm.txt bench/requirements/litellm.in
	$(LOCK) bench/requirements/smg.txt     bench/requirements/smg.in
	$(LOCK) bench/requirements/plots.txt   bench/requirements/plots.in
	$(LOCK) bench/requirements/http2.txt   bench/requirements/http2.in

audit: .venv-supply/.ready  ## Ask an advisory service about every lock; fails for packages that it does not know
	.venv-supply/bin/python requirements/audit.py $(wildcard requirements/*.txt)

licences: .venv/.dev  ## Renew docs/licences.md
	$(BIN)/python requirements/licences.py > docs/licences.md

# Built from an environment with only the packages of a server, including telemetry.
sbom: .venv-supply/.ready  ## Write the bill of materials of a server, dist/togetherchat.cdx.json (CycloneDX 1.6)
	rm -rf .venv-billed && $(PYTHON) -m venv --without-pip .venv-billed && mkdir -p dist
	.venv-supply/bin/python -m pip --python .venv-billed/bin/python install --disable-pip-version-check --quiet \
	    --require-hashes --no-deps -r requirements/telemetry.txt
	.venv-supply/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --spec-version 1.6 --validate \
	    --output-file dist/togetherchat.cdx.json .venv-billed/bin/python
	rm -rf .venv-billed

release: .venv/.dev sbom  ## Renew the baseline of `buf breaking` and the descriptor set, and write the bill of materials
	$(BIN)/buf build --output protos/baseline.binpb
	$(BIN)/python clients/descriptor_set.py
