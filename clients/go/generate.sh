#!/bin/sh
# Generates the Go stubs from the protos, where their go_package says, with the protoc of
# .venv-generate, and copies the service config beside them. The two arguments are the plugins
# protoc-gen-go and protoc-gen-go-grpc, whose versions make/tools.mk pins.
set -eu
cd "$(dirname "$0")/../.."
module=github.com/togetherchat/togetherchat/clients/go
rm -f clients/go/togetherchat/v1/*.pb.go
.venv-generate/bin/python -m grpc_tools.protoc -Iprotos \
    --plugin=protoc-gen-go="$1" --go_out=clients/go --go_opt=module=$module \
    --plugin=protoc-gen-go-grpc="$2" --go-grpc_out=clients/go --go-grpc_opt=module=$module \
    protos/togetherchat/v1/*.proto
cp protos/togetherchat/v1/service_config.json clients/go/togetherchat/service_config.json
