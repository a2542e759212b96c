#!/bin/sh
# A scripted agent: reads the prompt on stdin and does the story that it names, by the patch beside this
# file. It stands in for a model, so that a run can be tried without one.
set -eu

here=$(cd "$(dirname -- "$0")" && pwd)
story=$(sed -n 's/.*\(US-[0-9][0-9]*\).*/\1/p' | head -n 1)
patch=$here/$story.patch
if [ -z "$story" ] || [ ! -f "$patch" ]; then
    echo "The prompt names no story that there is a patch for." >&2
    exit 1
fi

if command -v git >/dev/null 2>&1; then
    git apply --verbose "$patch" 2>&1
else
    patch -p1 <"$patch"
fi

# The compiler may not be there; the checks will tell.
if command -v cargo >/dev/null 2>&1; then
    cargo test --offline --quiet 2>&1
fi

echo "- Did $story with tests"
echo
echo "<promise>COMPLETE</promise>"
