END {
    if (bad) exit 1
    for (n = 1; n <= entries; n++)
        printf "%s %9s %s\n", date[n], money(cents[n]), category[n]
}
