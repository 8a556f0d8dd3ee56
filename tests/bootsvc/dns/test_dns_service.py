"""The DNS server for real: across a veth, asked by dig, drill and unbound; dnsmasq is the server upstream, and the peer."""

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from appliance import Server
from boot_network import BootNetwork, output_of
from scapy.layers.dns import DNS, DNSQR

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("dns_tools")]

FULL = os.environ.get("BOOTSVC_PROOF") == "full"
UPSTREAM = "192.168.77.2"
SETTINGS = f"bootsvc: {{dns: {{domain: cluster, forwarders: [{UPSTREAM}], networks: [192.168.99.0/24]}}}}\n"
NODES = """\
nodes:
  n1:
    ipmi: {ipaddr: 10.78.0.11}
    network devices:
      default: {device: eth0, hwaddr: 52:54:00:00:00:01, ipaddr: 10.77.0.11, ipaddr6: "fd00::11"}
      ib: {ipaddr: 10.79.0.11}
  n2.rack:
    network devices:
      default: {ipaddr: 10.77.0.12}
"""
# dnsmasq's --expand-hosts leaves names with a dot alone, so that one is written out.
HOSTS = """\
10.77.0.11 n1 n1-default n1-eth0
fd00::11 n1 n1-default n1-eth0
10.79.0.11 n1-ib
10.78.0.11 n1-ipmi
10.77.0.12 n2.rack.cluster n2.rack-default.cluster
"""


@pytest.fixture
def dns_tools(require_tool: Callable[..., Path]) -> None:
    require_tool("dig", package="dnsutils")
    require_tool("dnsmasq", package="dnsmasq-base")


class Upstream:
    """dnsmasq on the other wire, as the site's name server; what it was asked stands in its log."""

    def __init__(self, network: BootNetwork, folder: Path) -> None:
        network.on(network.client, "ip", "address", "add", f"{UPSTREAM}/24", "dev", "other0")
        self._log = folder / "upstream.log"
        texts = [f"--txt-record=long.example.com,{'x' * 200}{index}" for index in range(10)]
        network.popen(
            network.client, "dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--no-resolv", "--no-hosts",
            f"--listen-address={UPSTREAM}", "--bind-interfaces", "--local=/example.com/", "--log-queries",
            f"--log-facility={self._log}", "--local-ttl=100", "--host-record=www.example.com,192.0.2.1", *texts,
        )  # fmt: skip
        while f"{UPSTREAM}:53" not in network.on(network.client, "ss", "-Hlun"):
            pass

    def asked(self, name: str) -> int:
        return self._log.read_text().count(f"] {name} from")


@pytest.fixture
def upstream(boot_network: BootNetwork, tmp_path: Path) -> Upstream:
    return Upstream(boot_network, tmp_path)


@pytest.fixture
def server(boot_network: BootNetwork, tmp_path: Path, upstream: Upstream) -> Server:
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.50/24", "dev", "boot0")
    made = Server(boot_network, tmp_path, settings=SETTINGS, nodes=NODES)
    made.wait_log("INFO ready")
    return made


def test_names_both_ways(server: Server, require_tool: Callable[..., Path]) -> None:
    assert server.short("N1.Cluster") == ["10.77.0.11"]
    assert server.short("n1.cluster", "AAAA") == ["fd00::11"]
    assert server.short("-x", "10.77.0.11") == ["n1.cluster."]
    assert server.short("-x", "10.79.0.11") == ["n1-ib.cluster."]
    assert server.short("-x", "fd00::11") == ["n1.cluster."]
    assert server.short("cluster", "NS") != []
    missing = server.dig("nope.cluster")
    assert "status: NXDOMAIN" in missing
    assert "IN\tSOA" in missing
    assert "status: NOERROR" in (nothing := server.dig("n1.cluster", "MX"))
    assert "ANSWER: 0, AUTHORITY: 1" in nothing
    assert "10.77.0.12" in server.dig("+tcp", "n2.rack.cluster")
    require_tool("drill", package="ldnsutils")
    assert "10.77.0.11" in server.on_client("drill", "n1.cluster", "@10.77.0.1")
    # The head node itself, without the wire.
    assert server.on_server("dig", "+short", "@10.77.0.1", "n1.cluster").split() == ["10.77.0.11"]
    given = server._network.udhcpc()
    assert given is not None
    assert given["dns"] == "10.77.0.1", "nodes are told of this name server"


def test_what_is_not_asked_as_usual(server: Server) -> None:
    assert "status: BADVERS" in server.dig("+edns=1", "+noednsneg", "n1.cluster")
    assert "status: NOTIMP" in server.dig("+opcode=status", "n1.cluster")
    assert "status: REFUSED" in server.dig("version.bind", "CH", "TXT")
    assert "failed" in server.dig("cluster", "AXFR")
    assert "status: REFUSED" in server.dig("+norecurse", "www.example.com")
    assert "status: FORMERR" in server.dig("+header-only"), "no question"
    assert server.short("+dnssec", "+bufsize=4096", "n1.cluster") == ["10.77.0.11"]


def test_the_rest_comes_from_upstream_and_is_kept(server: Server, upstream: Upstream) -> None:
    assert server.short("www.example.com") == ["192.0.2.1"]
    assert server.short("WWW.example.COM") == ["192.0.2.1"]
    assert upstream.asked("www.example.com") == 1
    assert "status: NXDOMAIN" in server.dig("nope.example.com")
    # Longer than a datagram: over TCP from upstream, and to the client, which is told so by a cut answer.
    long = server.dig("long.example.com", "TXT")
    assert "Truncated, retrying in TCP mode" in long
    assert "ANSWER: 10" in long
    assert server.dig("+ignore", "long.example.com", "TXT").count("flags: qr tc rd ra") == 1
    counters = server.counters()["dns"]
    assert counters["upstream cached"] >= 2
    assert counters["upstream failed"] == 0


def test_a_resolver_that_checks_its_answers_is_content(
    server: Server, tmp_path: Path, require_tool: Callable[..., Path]
) -> None:
    """unbound asks with random spelling, and throws away what does not repeat it."""
    require_tool("unbound")
    conf = tmp_path / "unbound.conf"
    conf.write_text(
        "server:\n interface: 127.0.0.1\n port: 5300\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n use-syslog: no\n"
        " module-config: \"iterator\"\n use-caps-for-id: yes\n do-not-query-localhost: no\n verbosity: 1\n pidfile: \"\"\n"
        " local-zone: \"10.in-addr.arpa.\" nodefault\n"
        "remote-control:\n control-enable: no\nforward-zone:\n name: \".\"\n forward-addr: 10.77.0.1\n"
    )  # fmt: skip
    network = server._network
    network.popen(network.client, "unbound", "-d", "-c", str(conf))
    while ":5300 " not in network.on(network.client, "ss", "-Hlun"):
        pass

    def ask(*words: str) -> list[str]:
        return server.on_client("dig", "@127.0.0.1", "-p", "5300", "+short", *words).split()

    assert ask("n1.cluster") == ["10.77.0.11"]
    assert ask("-x", "10.77.0.11") == ["n1.cluster."]
    assert ask("www.example.com") == ["192.0.2.1"]
    assert "NXDOMAIN" in server.on_client("dig", "@127.0.0.1", "-p", "5300", "nope.cluster")


def test_strangers_hear_nothing(server: Server) -> None:
    network = server._network
    network.on(network.client, "ip", "address", "add", "10.99.0.5/32", "dev", "boot0")
    network.on(network.server, "ip", "route", "add", "10.99.0.0/24", "dev", "boot0")
    quick = ("+timeout=1", "+tries=1", "+short")
    assert "10.77.0.11" not in server.on_client("dig", *quick, "-b", "10.99.0.5", "@10.77.0.1", "n1.cluster", check=False)
    assert "10.77.0.11" not in server.on_client(
        "dig", *quick, "+tcp", "-b", "10.99.0.5", "@10.77.0.1", "n1.cluster", check=False
    )
    server.wait_log("WARNING dns: 10.99.0.5 is in no network that is served")
    # Our address by way of another interface, and another address of ours.
    network.on(network.client, "ip", "route", "add", "10.77.0.1/32", "dev", "other0")
    assert "10.77.0.11" not in server.on_client("dig", *quick, "-b", UPSTREAM, "@10.77.0.1", "n1.cluster", check=False)
    network.on(network.client, "ip", "route", "del", "10.77.0.1/32", "dev", "other0")
    assert "10.77.0.11" not in server.on_client("dig", *quick, "@192.168.77.1", "n1.cluster", check=False)
    network.on(network.client, "ip", "address", "add", "192.168.99.5/32", "dev", "boot0")
    network.on(network.server, "ip", "route", "add", "192.168.99.0/24", "dev", "boot0")
    served = server.on_client("dig", "+short", "-b", "192.168.99.5", "@10.77.0.1", "n1.cluster")
    assert served.split() == ["10.77.0.11"], "networks that the settings name are served"


SUBNET = "    subnets: [{network: 192.168.77.0/24, range start: 192.168.77.100, range end: 192.168.77.110}]\n"


def test_each_subnet_is_served_on_our_address_there(boot_network: BootNetwork, tmp_path: Path) -> None:
    """The subnet is another wire; its machines are told our address on it, and know us by that."""
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.50/24", "dev", "boot0")
    boot_network.on(boot_network.client, "ip", "address", "add", f"{UPSTREAM}/24", "dev", "other0")
    # A name server that is this machine itself, by its other address, is not asked: the question would come back.
    settings = f"bootsvc:\n  dns: {{domain: cluster, forwarders: [192.168.77.1]}}\n  dhcp:\n{SUBNET}"
    server = Server(boot_network, tmp_path, settings=settings, nodes=NODES)
    server.wait_log("INFO ready")
    assert "dns listening if=other0 address=192.168.77.1 domain=cluster" in server.log
    there = ("dig", "+short", "+timeout=3", "+tries=1", "@192.168.77.1")
    for words in ((), ("+tcp",)):
        assert server.on_client(*there, *words, "n1.cluster").split() == ["10.77.0.11"]
    assert server.on_server(*there, "n1.cluster").split() == ["10.77.0.11"], "this machine itself, without the wire"
    # Twice each, so that what one was answered is not the other's answer.
    for _ in range(2):
        assert server.on_client(*there, "warewulf").split() == ["192.168.77.1"]
        assert server.short("warewulf") == ["10.77.0.1"]
    name = server.short("-x", "10.77.0.1")
    assert server.on_client(*there, "-x", "192.168.77.1").split() == name
    assert "status: REFUSED" in server.dig("www.example.com"), "there is nobody to be asked"
    for device, address in (("other0", "192.168.77.1"), ("boot0", "10.77.0.1")):
        given = boot_network.udhcpc(device=device)
        assert given is not None
        assert given["dns"] == address
    # Who is on no network of ours hears nothing there either.
    boot_network.on(boot_network.client, "ip", "address", "add", "10.99.0.5/32", "dev", "other0")
    boot_network.on(boot_network.server, "ip", "route", "add", "10.99.0.0/24", "dev", "other0")
    quick = ("dig", "+timeout=1", "+tries=1", "+short", "-b", "10.99.0.5", "@192.168.77.1", "n1.cluster")
    assert "10.77.0.11" not in server.on_client(*quick, check=False)
    # An address that is taken away, and the subnet without it.
    boot_network.on(boot_network.server, "ip", "address", "delete", "192.168.77.1/24", "dev", "other0")
    while "192.168.77.1%" in boot_network.on(boot_network.server, "ss", "-Hlunt"):
        pass
    boot_network.on(boot_network.server, "ip", "address", "add", "192.168.77.1/24", "dev", "other0")
    server.wait_log("dns listening if=other0 address=192.168.77.1")
    server.warewulf_conf.write_text(server.warewulf_conf.read_text().replace(SUBNET, ""))
    while "192.168.77.1%" in boot_network.on(boot_network.server, "ss", "-Hlunt"):
        pass
    assert server.short("n1.cluster") == ["10.77.0.11"]


def test_nodes_and_forwarders_change_without_a_restart(server: Server) -> None:
    server.nodes_conf.write_text(NODES.replace("10.77.0.12", "10.77.0.13"))
    server.wait_log("2 nodes loaded")
    while server.short("n2.rack.cluster") != ["10.77.0.13"]:
        pass
    server.warewulf_conf.write_text(server.warewulf_conf.read_text().replace("domain: cluster", "domain: other"))
    server.wait_log("2 nodes loaded|warewulf.conf loaded")
    while server.short("n1.other") != ["10.77.0.11"]:
        pass


def test_an_upstream_that_is_silent_fails_once_for_all_who_wait(server: Server) -> None:
    conf = server.warewulf_conf.read_text()
    server.warewulf_conf.write_text(conf.replace(f"forwarders: [{UPSTREAM}]", "forwarders: [192.168.77.9]"))
    server.wait_log("warewulf.conf loaded")
    network = server._network
    # Somebody who takes everything and says nothing.
    network.on(network.client, "ip", "address", "add", "192.168.77.9/24", "dev", "other0")
    sink = (
        "import socket,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "s.bind(('192.168.77.9',53)); print('up',flush=True); time.sleep(60)"
    )
    assert output_of(network.popen(network.client, "python3", "-c", sink)).readline() == "up\n"
    waiting = [
        network.popen(network.client, "dig", "+timeout=10", "+tries=1", "@10.77.0.1", "slow.example.com") for _ in range(5)
    ]
    assert server.short("n1.cluster") == ["10.77.0.11"], "others are served meanwhile"
    for each in waiting:
        assert "status: SERVFAIL" in each.communicate(timeout=20)[0]
    counters = server.counters()["dns"]
    assert (counters["upstream failed"], counters["upstream shared"]) == (1, 4)


def test_it_says_what_dnsmasq_says(server: Server, boot_network: BootNetwork, tmp_path: Path) -> None:
    """The same nodes in a hosts file: the same addresses and the same names, and the same "no such name"."""
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    boot_network.popen(
        boot_network.client, "dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--no-resolv", "--no-hosts", "--port=5353",
        f"--addn-hosts={hosts}", "--expand-hosts", "--domain=cluster", "--local=/cluster/", "--listen-address=127.0.0.1",
        "--bind-interfaces",
    )  # fmt: skip
    while ":5353 " not in boot_network.on(boot_network.client, "ss", "-Hlun"):
        pass
    names = ["n1", "N1", "n1-default", "n1-eth0", "n1-ib", "n1-ipmi", "n2.rack", "n2.rack-default", "nope", "n1.n1"]
    asked = [(f"{name}.cluster", kind) for name in names for kind in ("A", "AAAA", "MX")]
    asked += [
        (f"{last}.{network}.in-addr.arpa", "PTR") for network, last in (("0.77.10", 11), ("0.79.10", 11), ("0.77.10", 12))
    ]
    lines = tmp_path / "queries"
    lines.write_text("".join(f"{name} {kind}\n" for name, kind in asked))
    ask = ["dig", "+noall", "+comments", "+answer", "+nottlid", "+noedns", "-f", str(lines)]
    ours = server.on_client(*ask[:1], "@10.77.0.1", *ask[1:])
    theirs = server.on_client(*ask[:1], "@127.0.0.1", "-p", "5353", *ask[1:])
    assert len(_meaning(ours)) == len(asked)
    assert _meaning(ours) == _meaning(theirs)


def _meaning(output: str) -> list[tuple[str, list[str]]]:
    """Code and answers of each response that dig shows."""
    found: list[tuple[str, list[str]]] = []
    for line in output.splitlines():
        if "status: " in line:
            found.append((line.split("status: ")[1].split(",")[0], []))
        elif line and not line.startswith(";"):
            found[-1][1].append(" ".join(line.split()).lower())
    return [(code, sorted(answers)) for code, answers in found]


SEND = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
data = open(sys.argv[1], "rb").read()
asks = struct.pack("!6H", 0xBEEF, 0x100, 1, 0, 0, 0) + b"\\2n1\\7cluster\\0" + struct.pack("!HH", 1, 1)

def is_answered():
    # What is before the question in the server's queue was taken in then, and not dropped.
    for _ in range(20):
        sock.sendto(asks, ("10.77.0.1", 53))
        sock.settimeout(1)
        try:
            while True:
                answer = sock.recv(65535)
                if answer[:2] == asks[:2] and answer[6:8] == struct.pack("!H", 1):
                    return True
        except OSError:
            pass
    return False

at = sent = 0
while at < len(data):
    size = int.from_bytes(data[at:at + 2], "big")
    sock.settimeout(0)
    try:
        sock.sendto(data[at + 2:at + 2 + size], ("10.77.0.1", 53))
    except OSError:
        pass
    at += 2 + size
    sent += 1
    if sent % 50 == 0 and not is_answered():
        sys.exit(f"no answer after {sent} packets")
"""


def _noise(count: int, seed: int) -> bytes:
    """Packets with their length in front: random bytes, truncated and mutated queries, hostile names."""
    chance = random.Random(seed)
    good = [bytes(DNS(rd=1, qd=DNSQR(qname=name, qtype=kind))) for name in ("n1.cluster", "x.cluster") for kind in (1, 28, 255)]
    packets = []
    for _ in range(count):
        choice = chance.randrange(4)
        base = bytearray(chance.choice(good))
        if choice == 0:
            base = bytearray(chance.randbytes(chance.randrange(600)))
        elif choice == 1:
            del base[chance.randrange(len(base)) :]
        elif choice == 2:
            for _ in range(chance.randrange(1, 6)):
                base[chance.randrange(len(base))] = chance.randrange(256)
        else:
            label = chance.randbytes(chance.randrange(1, 64))
            base = base[:12] + bytes([len(label)]) + label + b"\7cluster\0" + struct.pack("!HH", chance.randrange(300), 1)
        packets.append(len(base).to_bytes(2, "big") + base)
    return b"".join(packets)


def test_noise_harms_nobody(server: Server, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    count = 300_000 if FULL else 5000
    noise.write_bytes(_noise(count, 1))
    network = server._network
    sender = network.popen(network.client, "python3", "-c", SEND, str(noise))
    before = _memory(server.process.pid)
    asked = 0
    while sender.poll() is None or asked < 3:
        # Its question may be lost where the socket's buffer is full, so it asks again, as clients do.
        assert server.short("+tries=10", "+timeout=1", "n1.cluster") == ["10.77.0.11"], "a real client is served meanwhile"
        asked += 1
    assert sender.returncode == 0, output_of(sender).read()
    counters = server.counters()["dns"]
    assert counters["malformed"] > 1000
    assert counters["received"] > count, "all of it was taken in"
    assert _memory(server.process.pid) < before + 60_000_000
    server.process.send_signal(15)
    rest, _ = server.process.communicate(timeout=30)
    assert "Traceback" not in server.log + rest
    assert len(rest.splitlines()) < 100


def _memory(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096


def test_idle_and_greedy_connections_keep_nobody_waiting(server: Server) -> None:
    hold = (
        "import socket,sys\nheld=[]\n"
        "for _ in range(300):\n s=socket.socket(); s.settimeout(2)\n"
        " try: s.connect(('10.77.0.1',53)); s.send(b'\\0'); held.append(s)\n except OSError: pass\n"
        "print(len(held),flush=True)\nsys.stdin.read()\n"
    )
    network = server._network
    holder = network.popen(network.client, "python3", "-c", hold)
    assert int(output_of(holder).readline()) > 0
    assert server.short("n1.cluster") == ["10.77.0.11"]
    network.on(network.client, "ip", "address", "add", "10.77.0.51/24", "dev", "boot0")
    other = server.on_client("dig", "+tcp", "+short", "-b", "10.77.0.51", "@10.77.0.1", "n1.cluster")
    assert other.split() == ["10.77.0.11"], "one client cannot take all connections"


def test_it_asks_from_random_ports_with_random_ids(server: Server) -> None:
    """What an attacker would have to guess to slip in an answer."""
    network = server._network
    command = ["tcpdump", "-i", "other0", "-nnl", "--immediate-mode", "-c", "12", "udp and dst port 53"]
    sniffer = network.popen(network.client, *command)
    for line in output_of(sniffer):
        if "listening on" in line:
            break
    for number in range(12):
        server.dig(f"r{number}.example.com")
    output, _ = sniffer.communicate(timeout=20)
    seen = [line for line in output.splitlines() if " > 192.168.77.2.53: " in line]
    ports = {line.split(" > ")[0].rpartition(".")[2] for line in seen}
    identifiers = {line.split("53: ")[1].split("+")[0] for line in seen}
    assert len(ports) > 8
    assert len(identifiers) > 8


def test_no_socket_takes_all_addresses(server: Server) -> None:
    """Another server may have 127.0.0.53, or a bridge of its own."""
    network = server._network
    bound = network.on(network.server, "ss", "-Hlunt")
    assert {line.split()[4] for line in bound.splitlines() if line.split()[4].endswith(":53")} == {
        "10.77.0.1%boot0:53",
        "10.77.0.1%lo:53",
    }


def test_a_flood_of_different_names_is_bounded(server: Server) -> None:
    """3 000 questions at once for a server that needs time: some are dropped, none is answered wrongly, nodes are served."""
    flood = (
        "import socket,struct\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "for i in range(3000):\n"
        " n=b'f%06d'%i\n"
        " head=struct.pack('!HHHHHH',i,256,1,0,0,0)+bytes([len(n)])\n"
        " s.sendto(head+n+b'\\7example\\3com\\0\\0\\1\\0\\1',('10.77.0.1',53))\n"
    )
    server.on_client("python3", "-c", flood)
    # What does not fit into the socket's buffer is lost, so a client may have to ask again.
    for name, address in (("n1.cluster", "10.77.0.11"), ("www.example.com", "192.0.2.1")):
        assert server.short("+tries=5", name) == [address]
    assert server.counters()["dns"]["upstream failed"] == 0
