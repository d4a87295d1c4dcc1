#!/bin/sh
# Shows the service in half a minute: starts it with the sandbox on a free port, completes a prompt,
# streams one, shows a typed error, lists models, and stops the service. The argument is the folder of
# the programs: .venv/bin
set -eu
bin=$1
log=$(mktemp)
"$bin/togetherchat-server" --sandbox --grpc-listen 127.0.0.1:0 --admin-listen off 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT

target=
for _ in $(seq 100); do
    target=$(sed -n 's/.*SERVING: gRPC on \([^,]*\).*/\1/p' "$log")
    [ -n "$target" ] && break
    sleep 0.1
done
[ -n "$target" ] || { cat "$log" >&2; exit 1; }
export TOGETHERCHAT_TARGET=$target

show() { printf '\n$ %s\n' "$*"; }

show togetherchat health
"$bin/togetherchat" health

show togetherchat complete "'What is gRPC?'"
"$bin/togetherchat" complete 'What is gRPC?'

show togetherchat complete --stream "'echo: one word after the other'"
"$bin/togetherchat" complete --stream 'echo: one word after the other'

show togetherchat complete --model sandbox/error-402 "'Hello!'"
code=0
"$bin/togetherchat" complete --model sandbox/error-402 'Hello!' || code=$?
echo "exit code $code"
[ "$code" -ne 0 ]

show togetherchat models --query llama-3.3
"$bin/togetherchat" models --query llama-3.3 --all
