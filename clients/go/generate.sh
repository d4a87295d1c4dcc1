#!/bin/sh
# Generates the Go stubs from the protos into the folder that go_package names. Needs the protoc
# of .venv-generate and the two plugins in .tools, whose versions the Makefile pins.
set -eu
cd "$(dirname "$0")/../.."
PATH="$PWD/.tools:$PATH" .venv-generate/bin/python -m grpc_tools.protoc -Iprotos \
    --go_out=clients/go --go_opt=module=github.com/togetherchat/togetherchat/clients/go \
    --go-grpc_out=clients/go --go-grpc_opt=module=github.com/togetherchat/togetherchat/clients/go \
    protos/togetherchat/v1/*.proto
cp protos/togetherchat/v1/service_config.json clients/go/togetherchat/service_config.json
