#!/usr/bin/env bash
# Generates src/gen from the contract's protos and from google.rpc's, which define the details of errors.
# Run `npm ci` here and `make .venv-generate/.ready` at the top first. PROTOC_PYTHON sets another Python
# with grpcio-tools and googleapis-common-protos. `--check` fails if the generated files would change.
set -euo pipefail
cd "$(dirname "$0")"

python=${PROTOC_PYTHON:-../../.venv-generate/bin/python}
google=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
out=src/gen
[ "${1:-}" != --check ] || out=$(mktemp -d)

mkdir -p "$out" && find "$out" -name '*_pb.ts' -delete
"$python" -m grpc_tools.protoc -I../../protos -I"$google" \
    --plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es \
    --es_out="$out" --es_opt=target=ts,import_extension=js \
    togetherchat/v1/chat.proto togetherchat/v1/models.proto togetherchat/v1/chat_service.proto \
    google/rpc/status.proto google/rpc/error_details.proto

if [ "$out" = src/gen ]; then
    cp ../../protos/togetherchat/v1/service_config.json src/service_config.json
else
    diff -r src/gen "$out"
    diff ../../protos/togetherchat/v1/service_config.json src/service_config.json
    rm -r "$out"
fi
