# format DEVICE TYPE OVERWRITE SIZE [ARGUMENT]...: what is not blank stays as it is, unless OVERWRITE is 1.
format() {
    wanted=$1 type=$2 overwrite=$3 size=$4
    shift 4
    make=mkfs.$type
    [ "$type" != swap ] || make=mkswap
    if ! command -v "$make" >/dev/null; then
        fail "$wanted: the image has no $make"
        return
    fi
    wait_for "$wanted" || return
    look_at "$device" || return
    if [ -n "$found" ]; then
        if [ "$overwrite" != 1 ]; then
            say "$wanted holds $found, and is kept"
            return
        fi
        if ! wipefs --all --quiet "$device"; then
            fail "$wanted: what is on it cannot be removed"
            return
        fi
    fi
    say "$wanted: $make"
    if ! "$make" "$@" "$device" ${size:+"$size"} </dev/null; then
        fail "$wanted: $make could not format it"
    fi
}
