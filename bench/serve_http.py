"""HTTP against nginx with sendfile and one worker: 500 MB as one file and as segments, scripts and small files from memory."""

import os
import random
import statistics
from functools import partial

from context import Context
from figures import Comparison, Kind, Limit, Runs, Subject, Target
from headnode import HeadNode
from namespace import Network, Served
from places import WWCTL

CLIENTS, SMALL_CLIENTS = 16, 64
SIZE, QUICK_SIZE = 500 << 20, 50 << 20
SECONDS, QUICK_SECONDS = 3, 1
REQUESTS = 1000
"""Small answers are compared by the time that so many take."""
CONF = """\
ipaddr: 127.0.0.1/8
dhcp: {{enabled: false}}
tftp: {{enabled: false}}
paths: {{sysconfdir: {root}/etc, localstatedir: {root}/lib, cachedir: {root}/cache}}
"""
NODES = """\
nodes:
  n1:
    image name: many
    network devices:
      default: {hwaddr: 52:54:00:00:00:01, ipaddr: 127.0.0.9, netmask: 255.0.0.0}
"""
NGINX = """\
worker_processes 1; daemon off; user root; pid {root}/nginx.pid; error_log {root}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=100;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:8080; root {root}/www; }}
}}
"""
OURS, PEER = "http://127.0.0.1:9873", "http://127.0.0.1:8080"


def measure(context: Context) -> Subject:
    size = QUICK_SIZE if context.quick else SIZE
    head = HeadNode.make(context.folder / "http")
    root = head.root
    (root / "warewulf.conf").write_text(CONF.format(root=root))
    (root / "etc/warewulf").mkdir(parents=True)
    (root / "etc/warewulf/nodes.conf").write_text(NODES)
    (root / "www").mkdir()
    (root / "nginx.conf").write_text(NGINX.format(root=root))
    context.say(f"making images of {size >> 20} MB that do not compress")
    draw = random.Random(1)
    for image, count in (("one", 1), ("many", size >> 21)):
        boot = head.rootfs(image) / "boot"
        boot.mkdir(parents=True)
        (boot / "vmlinuz-6.1.0-1-amd64").write_bytes(b"no kernel")
        for number in range(count):
            with (boot.parent / f"file{number}").open("wb") as file:
                for _ in range(size // count >> 20):
                    file.write(draw.randbytes(1 << 20))
    digests = {image: head.build(image).generation.digest for image in ("one", "many")}
    segments = [path for path, _ in head.current("one").image_files()]
    largest = max(segments, key=os.path.getsize)
    os.link(largest, root / "www/large")
    (root / "www/small").write_bytes(draw.randbytes(4096))
    blob = f"{OURS}/blobs/sha256:{largest.name}"
    with Network(folder=root) as network:
        ours = network.start(str(WWCTL), "--warewulfconf", str(root / "warewulf.conf"), "server").pid
        nginx = network.start("nginx", "-c", str(root / "nginx.conf")).pid
        for url in (f"{OURS}/status", f"{PEER}/small"):
            network.wait("curl", "-sf", "-o", "/dev/null", url)
        total = CLIENTS * largest.stat().st_size
        large = partial(_large, network, total)
        small = partial(_small, network, QUICK_SECONDS if context.quick else SECONDS)
        image = f"{OURS}/generations/{digests['many']}/image"
        cases = [
            Served(description="nginx, one file", fetch=partial(large, f"{PEER}/large"), pids=[nginx]),
            Served(description="wwctl server, one file", fetch=partial(large, blob), pids=[ours]),
            Served(description="wwctl server, segments", fetch=partial(large, image), pids=[ours]),
            Served(description="nginx, 4 KiB", fetch=partial(small, f"{PEER}/small"), pids=[nginx]),
            Served(description="wwctl server, script", fetch=partial(small, f"{OURS}/ipxe/52-54-00-00-00-01"), pids=[ours]),
            Served(
                description="wwctl server, small file",
                fetch=partial(small, f"{OURS}/generations/{digests['many']}/end"),
                pids=[ours],
            ),
        ]
        peer, one, many, peer_small, script, end = context.in_turn(cases)
    rate, few = Target(kind=Kind.FASTER, bound=0.95), Target(kind=Kind.FASTER, bound=0.12)
    what = f"HTTP {size >> 20} MB, {CLIENTS} clients"
    return Subject(
        name="serve_http",
        comparisons=(
            Comparison(work=f"{what}, one file", ours=one, peer=peer, target=rate),
            Comparison(work=f"{what}, segments", ours=many, peer=peer, target=rate),
            Comparison(
                work=f"HTTP script, {SMALL_CLIENTS} clients, {REQUESTS} requests", ours=script, peer=peer_small, target=few
            ),
            Comparison(
                work=f"HTTP small file, {SMALL_CLIENTS} clients, {REQUESTS} requests", ours=end, peer=peer_small, target=few
            ),
        ),
        limits=(
            Limit(what=f"{what}, one file: CPU against nginx's", value=_cpu_ratio(one, peer), bound=1.1),
            Limit(what=f"{what}, segments: CPU against nginx's", value=_cpu_ratio(many, peer), bound=1.1),
        ),
    )


def _large(network: Network, total: int, url: str) -> float:
    """Seconds for `total` bytes, whatever the exact size of what the URL names."""
    wall, got = network.load("http_get.py", url, str(CLIENTS))
    return wall * total / got


def _small(network: Network, seconds: int, url: str) -> float:
    words = network.output("wrk", "-t1", f"-c{SMALL_CLIENTS}", f"-d{seconds}", url).split()
    return REQUESTS / float(words[words.index("Requests/sec:") + 1])


def _cpu_ratio(ours: Runs, peer: Runs) -> float:
    """For the same bytes, pair by pair."""
    return statistics.median(a.cpu / max(b.cpu, 0.01) for a, b in zip(ours.samples, peer.samples, strict=True))
