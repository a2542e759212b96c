#!/bin/sh
# Runs every test. Its exit code says whether the project works.
cd "$(dirname -- "$0")" || exit 2
count=0
failed=0
for test in tests/test_*.sh; do
    [ -f "$test" ] || continue
    count=$((count + 1))
    if output=$(sh "$test" 2>&1); then
        echo "ok   $test"
    else
        failed=$((failed + 1))
        echo "FAIL $test"
        printf '%s\n' "$output" | sed 's/^/     /'
    fi
done
echo "$count test files, $failed failed"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
