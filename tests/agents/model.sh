#!/bin/sh
# Starts a double of the model providers on a free port of the loopback interface.
#
#   tests/agents/model.sh DIRECTORY FIXTURE
#
# DIRECTORY is where install.sh installed; FIXTURE is a file of tests/agents/fixtures, or its name
# without ".json". The base URL is the first line on stdout; the double runs in the foreground until it is
# killed or stdin is closed. It speaks the protocols of Anthropic, OpenAI (both) and Gemini, takes every
# key, and keeps what it was asked under /__aimock/journal.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 DIRECTORY FIXTURE" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
program=$1/node_modules/.bin/llmock
fixture=$2
[ -e "$fixture" ] || fixture=$here/fixtures/$2.json
[ -e "$program" ] || { echo "no $program: run $here/install.sh $1" >&2; exit 1; }
[ -e "$fixture" ] || { echo "no fixture $2" >&2; exit 1; }

log=$(mktemp)
# Strict turns: by default an earlier fixture answers again, and an agent loops forever.
AIMOCK_STRICT_TURN_INDEX=1 "$program" -p 0 -h 127.0.0.1 -f "$fixture" --validate-on-load \
    --journal-max 2000 >"$log" 2>&1 </dev/null &
model=$!
trap 'kill "$model" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 143' TERM INT HUP

# It takes any free port and says which one.
tries=0
url=
while [ -z "$url" ]; do
    url=$(sed -n 's,.*\(http://127\.0\.0\.1:[0-9][0-9]*\).*,\1,p' "$log" | head -n 1)
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$model" 2>/dev/null; then
        cat "$log" >&2
        exit 1
    fi
    [ -n "$url" ] || sleep 0.1
done
echo "$url"

# Ends with the program that started it: its end of the pipe is closed then.
cat >/dev/null
