# begin DISK WIPE, then a header or partition at a time, then finish. A blank disk, or with WIPE any, gets a new table; on
# another one, partitions whose names are missing are appended, and nothing else changes.
begin() {
    mode=skip lines=
    if ! command -v sfdisk >/dev/null; then
        fail "$1: the image has no sfdisk"
        return
    fi
    wait_for "$1" || return
    look_at "$device" || return
    case $2$found in
        1* | 0) mode=new ;;
        "0partition table "*) mode=append ;;
        *) fail "$1 holds $found and no partition table, and is kept" ;;
    esac
}

header() {
    lines="$lines$1
"
}

# The device of a partition by its name; nothing when the disk has none of that name.
find_partition() {
    sfdisk --dump "$device" | while IFS= read -r line; do
        case $line in
            *"name=\"$1\""*) echo "${line%% :*}" ;;
        esac
    done
}

partition() {
    case $mode in
        new)
            lines="$lines$2
"
            ;;
        append)
            if [ -z "$1" ]; then
                say "$device has a partition table: a partition without a name is not sought on it"
            elif [ -n "$(find_partition "$1")" ]; then
                say "$device has the partition $1"
            elif echo "$2" | sfdisk --quiet --append "$device"; then
                say "$device: the partition $1 is new"
            else
                fail "$device: the partition $1 cannot be made"
            fi
            ;;
    esac
}

absent() {
    [ "$mode" = append ] || return 0
    found=$(find_partition "$1")
    [ -n "$found" ] || return 0
    number=${found#"$device"}
    if sfdisk --quiet --delete "$device" "${number#p}"; then
        say "$device: the partition $1 is gone"
    else
        fail "$device: the partition $1 cannot be deleted"
    fi
}

finish() {
    if [ "$mode" = new ]; then
        if printf '%s' "$lines" | sfdisk --quiet --wipe always --wipe-partitions always "$device"; then
            say "$device: a new partition table"
        else
            fail "$device: the partition table cannot be written"
        fi
    fi
    ! command -v udevadm >/dev/null || udevadm settle --timeout=30 || :
}
