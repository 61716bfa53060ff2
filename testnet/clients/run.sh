#!/usr/bin/env bash
# Starts a node with a gateway, publishes the digits classifier, SmolLM2 and MiniLM, and runs the tests of the real clients: openai,
# tritonclient, and LangChain on top of them.
# Needs a built target/release/zero2ai and a Python with requirements.txt; the two models are downloaded once (93 and 84 MB)
# into the cache that the demo uses.
#   testnet/clients/run.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${1:-python3}
program=${ZERO2AI:-target/release/zero2ai}
model=$("$python" testnet/network.py)
embedder=$("$python" testnet/network.py embedder)

home=$(mktemp -d)
node=
stop() {
    [ -z "$node" ] || { kill "$node" && wait "$node"; } 2>/dev/null || true
    rm -rf "$home"
}
trap stop EXIT

"$program" --home "$home/n" up --http 127.0.0.1:0 --json >"$home/said" 2>"$home/log" &
node=$!
for _ in $(seq 600); do
    [ ! -s "$home/said" ] || break
    kill -0 "$node" 2>/dev/null || { cat "$home/log" >&2; exit 1; }
    sleep 0.1
done
ZERO2AI_URL=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["http"]["url"])' "$home/said")
ZERO2AI_TOKEN=$(cat "$home/n/http.token")
ZERO2AI=$(realpath "$program")
ZERO2AI_HOME=$home/n
export ZERO2AI ZERO2AI_HOME ZERO2AI_URL ZERO2AI_TOKEN

"$program" publish testnet/fixtures/digits/digits.onnx --name acme/digits --replicas 0
"$program" publish "$model" --name lab/smollm2 --replicas 0
"$program" publish "$embedder" --name lab/minilm --replicas 0
"$python" -W ignore::ResourceWarning -m unittest discover -s testnet/clients -v || { tail -n 50 "$home/log" >&2; exit 1; }
