#!/bin/sh
# Installs the agent programs and the model double that the tests are pinned to.
#
#   tests/agents/install.sh DIRECTORY
#
# DIRECTORY gets a node_modules of its own (about 1.3 GB) and lies outside the repository or where git
# ignores it, so that nothing of it can be committed. Running it again is harmless and quick. Needs node 20 or newer and
# npm; registry and proxy come from npm's own configuration.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 DIRECTORY" >&2
    exit 2
fi
command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer" >&2; exit 1; }
mkdir -p "$1"
directory=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
case "$directory/" in
    "$repository"/*)
        git -C "$repository" check-ignore -q "$directory" || {
            echo "choose a directory outside the repository, or one that git ignores, not $directory" >&2
            exit 2
        }
        ;;
esac

# The versions that adapters and fixtures were tried with. claude declares Node 22 but is a native
# program: named exactly, it also installs beside Node 20.
cat >"$directory/package.json" <<'JSON'
{
  "name": "cove-agent-programs",
  "private": true,
  "dependencies": {
    "@anthropic-ai/claude-code": "2.1.330",
    "@openai/codex": "0.169.0",
    "opencode-ai": "1.18.33",
    "@google/gemini-cli": "0.61.0",
    "@copilotkit/aimock": "1.43.0"
  }
}
JSON

cd "$directory"
npm install --no-audit --no-fund --no-progress --loglevel=error

# An install script that was skipped leaves a stub behind that only says so.
for program in claude codex opencode gemini llmock; do
    if ! "node_modules/.bin/$program" --version >/dev/null 2>&1 && [ "$program" != llmock ]; then
        echo "$program was installed but does not start; see 'npm rebuild' in $directory" >&2
        exit 1
    fi
    [ -e "node_modules/.bin/$program" ] || { echo "$program is missing" >&2; exit 1; }
done
echo "$directory"
