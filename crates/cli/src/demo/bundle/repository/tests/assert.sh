# same NAME WANT GOT: ends the test when they differ.
same() {
    [ "$2" = "$3" ] && return 0
    echo "$1: they differ"
    echo "wanted:"
    printf '%s\n' "$2"
    echo "got:"
    printf '%s\n' "$3"
    exit 1
}
