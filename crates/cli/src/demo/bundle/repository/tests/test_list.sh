. tests/assert.sh

same "all entries" 7 "$(sh tally list data/july.txt | wc -l | tr -d ' ')"
same "a refund" "2026-07-10     -4.99 books" "$(sh tally list data/july.txt | grep -e -4.99)"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "2026-07-01 12.5 food" >"$log"
if sh tally list "$log" 2>/dev/null; then
    echo "an amount with one decimal was accepted"
    exit 1
fi
