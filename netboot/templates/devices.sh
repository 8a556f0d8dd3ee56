# What the scripts for disks share. $name is the script's, $failed becomes 1 when something could not be done.

failed=0

say() {
    echo "$name: $*"
}

fail() {
    say "FAILED: $*"
    failed=1
}

# The block device of that name; labels and UUIDs are found without udev, too.
find_device() {
    if [ -b "$1" ]; then
        echo "$1"
        return 0
    fi
    case $1 in
        /dev/disk/by-partlabel/*) tag=PARTLABEL ;;
        /dev/disk/by-partuuid/*) tag=PARTUUID ;;
        /dev/disk/by-label/*) tag=LABEL ;;
        /dev/disk/by-uuid/*) tag=UUID ;;
        *) return 1 ;;
    esac
    blkid -c /dev/null -o device -t "$tag=${1##*/}" 2>/dev/null
}

# Sets $device; a disk may come up late.
wait_for() {
    seconds=${DEVICE_SECONDS:-10}
    until device=$(find_device "$1"); do
        if [ "$seconds" -le 0 ]; then
            fail "there is no $1"
            return 1
        fi
        seconds=$((seconds - 1))
        sleep 1
    done
}

# Sets $found to what is on the device, to nothing when it is blank. Not to know is not to be blank.
look_at() {
    if ! head -c 4096 "$1" >/dev/null 2>&1; then
        fail "$1 cannot be read"
        return 1
    fi
    status=0
    probed=$(blkid -c /dev/null -p -o export "$1" 2>/dev/null) || status=$?
    case $status in
        0) found=$(echo "$probed" | sed -n 's/^TYPE=//p; s/^PTTYPE=/partition table /p' | head -n 1) ;;
        2) found= ;;
        8) found="several signatures" ;;
        *)
            fail "nobody can tell what is on $1: blkid (util-linux) is missing in the image, or cannot read it"
            return 1
            ;;
    esac
}
