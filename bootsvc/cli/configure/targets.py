"""What each verb of `wwctl configure` does; all of them take a Head and say what they did."""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from bootsvc.cli.configure.head import Head
from bootsvc.cli.terminal import warn
from bootsvc.cluster_keys import make_key_pair, public_half
from bootsvc.hostblock import replace_block
from images.errors import Error

HOSTS, EXPORTS, PROFILE = Path("/etc/hosts"), Path("/etc/exports"), "etc/profile.d/ssh_setup"
ROOT_SSH = Path("/root/.ssh")
PAIR = ("warewulf.key", "warewulf.crt")


def hostfile(head: Head) -> None:
    _write_lines(head, HOSTS)


def nfs(head: Head) -> None:
    config = head.config.head.nfs
    if not config.enabled:
        print("NFS is off in warewulf.conf (nfs: enabled: false); nothing to do")
        return
    if _write_lines(head, EXPORTS):
        head.run_if_there("exportfs", "-ra")
    head.start(config.systemd_name)


def _write_lines(head: Head, path: Path) -> bool:
    """The host overlay's lines in one of the head node's files; False when nothing was to write."""
    if not _overlay_is_on(head):
        return False
    made = head.rendered(str(path.relative_to("/"))).get(str(path.relative_to("/")))
    if made is not None and made.whole:
        return head.write(path, made.text)
    block = "" if made is None else made.text
    before = head.read(path)
    after = replace_block(before, block)
    if not block and before.splitlines() == after.splitlines():
        print(f"nothing to write to {path}")
        return False
    return head.write(path, after)


def _overlay_is_on(head: Head) -> bool:
    if not head.config.head.warewulf.host_overlay:
        print("the host overlay is off in warewulf.conf (warewulf: host overlay: false); nothing to write")
    return head.config.head.warewulf.host_overlay


def ssh(head: Head, key_types: Sequence[str]) -> None:
    """Keys are never written over: nodes and users know them."""
    folder = head.config.paths.sysconfdir / "warewulf" / "keys"
    for kind in key_types:
        _make_pair(head, folder / f"ssh_host_{kind}_key", kind, "cluster host key")
    own = ROOT_SSH / f"id_{key_types[0]}"
    _make_pair(head, own, key_types[0], "root of the cluster's head node")
    authorized = ROOT_SSH / "authorized_keys"
    public = head.place(own.with_name(own.name + ".pub"))
    if public.exists() and not head.place(authorized).exists():
        head.write_new({authorized: public.read_bytes()}, private=[authorized])
    if _overlay_is_on(head):
        for path, made in head.rendered(PROFILE).items():
            head.write(Path("/") / path, made.text)


def _make_pair(head: Head, path: Path, kind: str, comment: str) -> None:
    public = path.with_name(path.name + ".pub")
    has_private, has_public = head.place(path).exists(), head.place(public).exists()
    if has_private and not has_public:
        # A command was killed between the two, or somebody deleted it; without it no node gets the key.
        text = public_half(head.place(path).read_bytes(), comment)
        if text is not None:
            head.write_new({public: text}, private=())
            return
    if has_private != has_public:
        there, missing = (path, public) if has_private else (public, path)
        warn(f"{head.place(there)} is there without {missing.name}", "move it away, and a new pair is made")
    if has_private or has_public:
        print(f"{head.place(path if has_private else public)} is there, and stays")
        return
    pair = make_key_pair(kind, comment)
    head.write_new({path: pair.private, public: pair.public}, private=[path])


def tls(head: Head, *, source: Path | None = None, target: Path | None = None, again: bool = False) -> None:
    """Make, import or export the server's key and certificate."""
    from bootsvc.certificates import describe

    folder = head.config.paths.sysconfdir / "warewulf" / "tls"
    if target is not None:
        _export(head, folder, target)
        return
    files = _given(source) if source is not None else _new(head) if again or not _has_any(head, folder) else {}
    if files:
        private = [folder / name for name in files if name.endswith(".key")]
        head.write_new({folder / name: content for name, content in files.items()}, private=private, again=True)
        if "ca.crt" not in files and not head.dry:
            # An authority that did not sign what was taken over would make every node refuse it.
            for name in ("ca.crt", "ca.key"):
                head.place(folder / name).unlink(missing_ok=True)
        certificate = files["warewulf.crt"]
    elif all(head.place(folder / name).exists() for name in PAIR):
        print(f"{head.place(folder)} has a key and a certificate, which stay; --force makes new ones")
        certificate = _working(head.place(folder))
    else:
        raise Error(f"{head.place(folder)} has only a part of key and certificate", hint="--force makes new ones")
    for line in describe(certificate):
        print(f"  {line}")
    if not head.config.head.warewulf.tls:
        print("TLS is off in warewulf.conf (warewulf: tls: false)")


def _working(folder: Path) -> bytes:
    """The certificate that is there; raises Error when nothing can be served with it."""
    from bootsvc.certificates import BadCertificate, check_pair

    key, certificate = ((folder / name).read_bytes() for name in PAIR)
    try:
        check_pair(certificate, key, folder, datetime.now(UTC))
    except BadCertificate as exc:
        raise Error(exc.message, hint="--force makes new ones, --import takes others") from exc
    return certificate


def _has_any(head: Head, folder: Path) -> bool:
    return any(head.place(folder / name).exists() for name in PAIR)


def _new(head: Head) -> dict[str, bytes]:
    from bootsvc.certificates import make_authority

    config = head.config
    given = (config.ipaddr, config.head.ipaddr6.ip if config.head.ipaddr6 else None)
    addresses: list[IPv4Address | IPv6Address] = [address for address in given if address is not None]
    if config.ipaddr is None:
        from bootsvc.overlays import find_server

        addresses.insert(0, find_server(config).address)
    names = ["warewulf", *([config.fqdn] if config.fqdn else [])]
    made = make_authority(names, addresses, datetime.now(UTC))
    return {"ca.key": made.ca_key, "warewulf.key": made.key, "ca.crt": made.ca, "warewulf.crt": made.certificate}


def _given(folder: Path) -> dict[str, bytes]:
    """A site's own pair, and its ca.crt where it has one. Raises BadCertificate."""
    from bootsvc.certificates import check_pair

    try:
        files = {name: (folder / name).read_bytes() for name in PAIR}
        if (folder / "ca.crt").exists():
            files["ca.crt"] = (folder / "ca.crt").read_bytes()
    except OSError as exc:
        raise Error(
            f"cannot read {exc.filename}: {exc.strerror}", hint="--import takes a folder with warewulf.key and .crt"
        ) from exc
    check_pair(files["warewulf.crt"], files["warewulf.key"], folder, datetime.now(UTC))
    return files


def _export(head: Head, folder: Path, target: Path) -> None:
    from images.atomic import write_whole

    try:
        contents = {name: head.place(folder / name).read_bytes() for name in PAIR}
    except OSError as exc:
        raise Error(f"cannot read {exc.filename}: {exc.strerror}", hint="`wwctl configure tls` makes them") from exc
    if not target.is_dir():
        raise Error(f"{target} is no folder", hint="--export takes a folder that is there")
    for name, content in contents.items():
        if head.dry:
            print(f"Would write {target / name}")
            continue
        write_whole(target / name, content)
        if not name.endswith(".key"):
            (target / name).chmod(0o644)
        print(f"Wrote {target / name}")


def dhcp(head: Head) -> None:
    _explain(head.config.dhcp.enabled, "DHCP", "dhcp", "dhcpd or dnsmasq")


def tftp(head: Head) -> None:
    _explain(head.config.tftp.enabled, "TFTP", "tftp", "tftpd")


def _explain(enabled: bool, name: str, section: str, other: str) -> None:
    if enabled:
        print(f"`wwctl server` serves {name} itself: nothing to configure, and no {other} is needed")
    else:
        print(f"{name} is off in warewulf.conf ({section}: enabled: false), and `wwctl server` does not serve it")


def warewulfd(_head: Head) -> None:
    print("`wwctl server` takes the place of warewulfd, and notices changed files by itself: nothing to configure")
