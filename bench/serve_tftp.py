"""TFTP against tftpd-hpa and dnsmasq: a loader of 1 MB, 32 transfers at once, without a window and with one."""

from functools import partial

from context import Context
from figures import Comparison, Kind, Subject, Target
from headnode import HeadNode
from namespace import Network, Served
from places import WWCTL

SIZE = 1 << 20
TRANSFERS, ROUNDS, QUICK_ROUNDS = 32, 4, 1
BLKSIZE, WINDOW = 1468, 16
CONF = """\
ipaddr: 127.0.0.1/8
dhcp: {{enabled: false}}
paths: {{sysconfdir: {root}/etc, localstatedir: {root}/lib, cachedir: {root}/cache, ipxesource: {root}/files}}
"""
OURS, HPA, DNSMASQ = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def measure(context: Context) -> Subject:
    root = HeadNode.make(context.folder / "tftp").root
    (root / "warewulf.conf").write_text(CONF.format(root=root))
    (root / "files").mkdir()
    (root / "files/loader").write_bytes(bytes(range(256)) * (SIZE // 256))
    # tftpd-hpa serves as nobody, who has to get there.
    for folder in (root / "files", *root.parents):
        folder.chmod(folder.stat().st_mode | 0o111)
    rounds = QUICK_ROUNDS if context.quick else ROUNDS
    with Network(folder=root) as network:
        ours = network.start(str(WWCTL), "--warewulfconf", str(root / "warewulf.conf"), "server").pid
        options = ["--ipv4", "--foreground", "--listen", "--address", f"{HPA}:69", "--secure", str(root / "files")]
        hpa = network.start("in.tftpd", *options).pid
        options = ["-k", "--port=0", "--conf-file=/dev/null", "--enable-tftp", f"--tftp-root={root / 'files'}", "--user=root"]
        options += [f"--listen-address={DNSMASQ}", "--bind-interfaces", "--tftp-max=200", f"--pid-file={root / 'dnsmasq.pid'}"]
        dnsmasq = network.start("dnsmasq", *options, f"--log-facility={root / 'dnsmasq.txt'}").pid
        for server in (OURS, HPA, DNSMASQ):
            network.wait("curl", "-sf", "-o", "/dev/null", f"tftp://{server}/loader")

        def case(name: str, server: str, window: int, pid: int) -> Served:
            return Served(
                description=f"{name}, windowsize {window}", fetch=partial(_fetch, network, server, rounds, window), pids=[pid]
            )

        cases = [
            case("tftpd-hpa", HPA, 1, hpa),
            case("dnsmasq", DNSMASQ, 1, dnsmasq),
            case("wwctl server", OURS, 1, ours),
            case("tftpd-hpa", HPA, WINDOW, hpa),
            case("wwctl server", OURS, WINDOW, ours),
        ]
        hpa_one, dnsmasq_one, ours_one, hpa_window, ours_window = context.in_turn(cases)
    what = f"TFTP 1 MB, {TRANSFERS} at once, blksize {BLKSIZE}"
    same = Target(kind=Kind.FASTER, bound=1)
    return Subject(
        name="serve_tftp",
        comparisons=(
            Comparison(work=f"{what}, against tftpd-hpa", ours=ours_one, peer=hpa_one, target=same),
            Comparison(work=f"{what}, against dnsmasq", ours=ours_one, peer=dnsmasq_one, target=same),
            Comparison(
                work=f"{what}, windowsize {WINDOW}, against tftpd-hpa",
                ours=ours_window,
                peer=hpa_window,
                target=Target(kind=Kind.FASTER, bound=4),
            ),
        ),
    )


def _fetch(network: Network, server: str, rounds: int, window: int) -> float:
    words = [server, "loader", str(TRANSFERS), str(rounds), str(BLKSIZE), str(window)]
    wall, total, _, _ = network.load("tftp_get.py", *words)
    assert total == TRANSFERS * rounds * SIZE
    return wall
