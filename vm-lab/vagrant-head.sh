#!/bin/sh
# Make a head node of a Debian 12 machine: bootsvc from /vagrant into its own environment, an image, nodes, the server.
# Arguments: the head node's address on the boot network, then NAME HWADDR ADDRESS of each node.
set -eu

address=$1
shift
network=${address%.*}

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends python3-venv libmagic1 ipxe openssh-client

python3 -m venv /opt/bootsvc
/opt/bootsvc/bin/pip install --quiet /vagrant
ln -sf /opt/bootsvc/bin/wwctl /usr/local/bin/wwctl

mkdir -p /etc/warewulf
cat >/etc/warewulf/warewulf.conf <<CONF
ipaddr: $address
netmask: 255.255.255.0
network: $network.0
dhcp:
  enabled: true
  range start: $network.100
  range end: $network.199
tftp:
  enabled: true
CONF

# The nodes' root lets in whoever has this key.
[ -f /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519

if ! [ -d /var/lib/warewulf/chroots/debian-12 ]; then
    wwctl container import docker://debian:12 debian-12
    wwctl container exec debian-12 -- /bin/sh -c '
        export DEBIAN_FRONTEND=noninteractive
        apt-get update &&
        apt-get install --yes --no-install-recommends systemd-sysv dbus udev iproute2 openssh-server linux-image-amd64 &&
        apt-get clean &&
        systemctl enable systemd-networkd'
fi

while [ $# -ge 3 ]; do
    wwctl node list "$1" 2>/dev/null | grep -q "^$1 " ||
        wwctl node add "$1" --hwaddr "$2" --ipaddr "$3" --netmask 255.255.255.0 --image debian-12
    shift 3
done

systemctl is-active --quiet bootsvc ||
    systemd-run --unit bootsvc --property Restart=on-failure /usr/local/bin/wwctl server
