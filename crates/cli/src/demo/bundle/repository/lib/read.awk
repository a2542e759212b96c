# Reads entries: date[n], cents[n], category[n] for n from 1 to entries.
# Amounts are whole cents, so that sums are exact.

function fail(what) {
    printf "tally: %s line %d: %s\n", FILENAME, FNR, what > "/dev/stderr"
    bad = 1
    exit 1
}

function to_cents(text,    sign, parts) {
    sign = 1
    if (substr(text, 1, 1) == "-") {
        sign = -1
        text = substr(text, 2)
    }
    split(text, parts, ".")
    return sign * (parts[1] * 100 + parts[2])
}

function money(amount,    sign) {
    sign = ""
    if (amount < 0) {
        sign = "-"
        amount = -amount
    }
    return sprintf("%s%d.%02d", sign, int(amount / 100), amount % 100)
}

/^[ \t]*(#|$)/ { next }
NF != 3 { fail("a date, an amount and a category are needed") }
$2 !~ /^-?[0-9]+\.[0-9][0-9]$/ { fail("the amount needs two decimals") }

{
    entries++
    date[entries] = $1
    cents[entries] = to_cents($2)
    category[entries] = $3
}
