"""Whether the kernel finds what it needs to come up: itself, its drivers, an init, and the tools of the stages before it."""

import re
import struct
from collections.abc import Iterator

from images.doctor.subject import Finding, Subject, error, everywhere, listed, note, shown, warning
from images.kernel import default_kernel
from images.xattrs.record import CODE

KERNELS = {
    "debian": "linux-image-{arch}",
    "ubuntu": "linux-image-generic",
    "redhat": "kernel",
    "suse": "kernel-default",
    "alpine": "linux-lts",
    "arch": "linux",
}
_VIRTUAL = re.compile(r"(virtio_net|vmxnet3|xen-netfront|hv_netvsc|gve|ena|mana|ixgbevf|i40evf|iavf|idpf)")
_DRIVER = re.compile(
    r"kernel/drivers/(?:net/ethernet/.+/|net/(?:vmxnet3/|hyperv/)?(?=virtio_net|vmxnet3|xen-netfront|hv_netvsc))([\w-]+)\.ko"
)
ONBOARD = (
    "e1000e",
    "igb",
    "ixgbe",
    "i40e",
    "ice",
    "tg3",
    "bnxt_en",
    "bnx2x",
    "r8169",
    "mlx5_core",
    "mlx4_en",
    "macb",
    "stmmac",
)
"""Drivers of the network chips that servers are sold with."""
_PE_MACHINES = {0x8664: "amd64", 0xAA64: "arm64", 0x14C: "386", 0x5064: "riscv64"}

STAGE1_TOOLS = (
    ("a shell", ("sh",), "bash"),
    ("switch_root", ("switch_root", "busybox"), "util-linux"),
    ("curl or wget", ("curl", "wget", "busybox"), "curl"),
    ("cpio", ("cpio", "busybox"), "cpio"),
    ("zstd", ("zstd", "unzstd"), "zstd"),
    ("ip", ("ip", "busybox"), "iproute2"),
    ("modprobe", ("modprobe", "busybox"), "kmod"),
)
"""What a first stage is assembled from: a word for people, the programs that will do, and Debian's package."""


def kernel(subject: Subject) -> Iterator[Finding]:
    if default_kernel(subject.kernels) is None:
        arch = subject.architecture if subject.architecture != "unknown" else subject.host.architecture
        packages = {family: name.format(arch=arch) for family, name in KERNELS.items()}
        yield error("there is no kernel in it, so no node can boot it", subject.install("a kernel", packages))


def network_drivers(subject: Subject) -> Iterator[Finding]:
    """Of the kernel that nodes get by default; a module, or built in as its `modules.builtin` says."""
    chosen = default_kernel(subject.kernels)
    if chosen is None:
        return
    again = subject.install("the kernel's modules", {**KERNELS, "debian": f"linux-image-{subject.architecture}"})
    folder = b"lib/modules/" + chosen.release.encode(errors="surrogateescape")
    names = [entry.path.decode(errors="replace") for entry in subject.below(folder)]
    if not names:
        yield error(f"kernel {chosen.release} has no modules: /lib/modules/{chosen.release} is missing or empty", again)
        return
    names += (subject.text(folder + b"/modules.builtin") or "").splitlines()
    drivers = sorted({driver for name in names if (driver := _driver(name))})
    if not drivers:
        yield error(f"kernel {chosen.release} has no driver of any network card, so its nodes are without network", again)
    elif not set(drivers) & set(ONBOARD):
        physical = [driver for driver in drivers if not _VIRTUAL.fullmatch(driver)]
        yield warning(
            f"kernel {chosen.release} has no driver of the usual onboard network chips, only {listed(physical or drivers)}",
            again,
        )


def _driver(module: str) -> str | None:
    """The network driver that a module's file is: by its folder, or by its name where somebody put it elsewhere."""
    found = _DRIVER.search(module)
    name = found[1] if found else module.rsplit("/", 1)[-1].partition(".ko")[0]
    return name if found or (".ko" in module and (name in ONBOARD or _VIRTUAL.fullmatch(name))) else None


def init(subject: Subject) -> Iterator[Finding]:
    """What a node starts after our own init; the kernel argument `init=` may name another."""
    if subject.view.find_file(b"sbin/init") is None:
        packages = {"debian": "systemd-sysv udev", "redhat": "systemd systemd-udev", "suse": "systemd udev"}
        packages |= {"alpine": "openrc", "arch": "systemd-sysvcompat"}
        yield error("it has no /sbin/init, so nothing would start on a node", subject.install("an init", packages))


def own_init(subject: Subject) -> Iterator[Finding]:
    """The script that runs first on a node needs the image's shell and mount(8)."""
    for name, package in (("sh", "bash"), ("mount", "mount")):
        if subject.program(name) is None:
            packages = everywhere("util-linux" if name == "mount" else package) | {"debian": package}
            yield error(f"it has no {name}, without which a node cannot start its init", subject.install(name, packages))


def systemd(subject: Subject) -> Iterator[Finding]:
    """Images of container registries often carry a systemd that was cut down: such a node never gets a device or a login."""
    if subject.view.find_file(b"lib/systemd/systemd") is None and subject.view.find_file(b"usr/lib/systemd/systemd") is None:
        return
    missing = [unit for unit, target in _ESSENTIAL if not _wanted(subject, unit, target)]
    forbidden = [unit for unit, _ in _ESSENTIAL if masked(subject, unit)]
    packages = {
        "debian": "--reinstall systemd systemd-sysv udev",
        "redhat": "systemd systemd-udev",
        "suse": "--force systemd udev",
        "arch": "systemd",
    }
    whole = subject.install("the whole systemd", packages)
    if subject.distribution().family == "redhat":
        whole = subject.shell("dnf install -y systemd systemd-udev && dnf reinstall -y systemd systemd-udev")
    if missing:
        yield error(f"its systemd was cut down for containers: {listed(missing)} would not start", whole)
    if forbidden:
        yield error(f"{listed(forbidden)} cannot start: masked", subject.run("systemctl", "unmask", *forbidden))
    if not any(subject.exists(folder + b"/default.target") for folder in _UNITS):
        yield error(
            "systemd has no default.target, so it would not know what to start",
            subject.run("systemctl", "set-default", "multi-user.target"),
        )


_UNITS = (b"etc/systemd/system", b"usr/lib/systemd/system", b"lib/systemd/system")
_ESSENTIAL = (
    ("systemd-udevd.service", "sysinit.target"),
    ("systemd-udev-trigger.service", "sysinit.target"),
    ("systemd-tmpfiles-setup-dev.service", "sysinit.target"),
    ("systemd-journald.service", "sysinit.target"),
    ("getty.target", "multi-user.target"),
)
"""Units without which a node has no devices, no log or no login, and who starts them."""


def _wanted(subject: Subject, unit: str, target: str) -> bool:
    folders = [folder + f"/{target}.wants/".encode() for folder in _UNITS]
    return any(subject.view.find(subject.view.resolve_parent(folder + unit.encode())) is not None for folder in folders)


def masked(subject: Subject, unit: str) -> bool:
    """Whether the image forbids systemd to start the unit."""
    entry = subject.view.find(subject.view.resolve_parent(b"etc/systemd/system/" + unit.encode()))
    return entry is not None and entry.is_symlink and entry.target == b"/dev/null"


def architecture(subject: Subject) -> Iterator[Finding]:
    """Kernel and programs must be of one kind; that the head node is of another is only worth a word."""
    chosen = default_kernel(subject.kernels)
    machine = None if chosen is None else _kernel_architecture(subject.read(chosen.real.encode(errors="surrogateescape"), 4096))
    if machine is not None and "unknown" not in (machine, subject.architecture) and machine != subject.architecture:
        yield error(
            f"its kernel is for {machine}, but its programs are for {subject.architecture}",
            f"import the image for one architecture: {subject.command} import --platform linux/{machine} …",
        )
    elif subject.architecture not in ("unknown", subject.host.architecture):
        yield warning(
            f"it is for {subject.architecture} machines, and this server is {subject.host.architecture}",
            f"for nodes like this server: {subject.command} import --platform linux/{subject.host.architecture} …",
        )


def _kernel_architecture(head: bytes | None) -> str | None:
    """From the PE header that kernels have for UEFI (and x86's have anyway)."""
    if head is None or len(head) < 0x40 or head[:2] != b"MZ":
        return None
    (offset,) = struct.unpack_from("<I", head, 0x3C)
    if offset + 6 > len(head) or head[offset : offset + 4] != b"PE\0\0":
        return None
    return _PE_MACHINES.get(struct.unpack_from("<H", head, offset + 4)[0])


def merged_usr(subject: Subject) -> Iterator[Finding]:
    """`/bin`, `/lib` and the like are either all folders or all links into `/usr`, and a link leads somewhere."""
    entries = {name: subject.view.find(name.encode()) for name in ("bin", "sbin", "lib", "lib64")}
    links = [name for name, entry in entries.items() if entry is not None and entry.is_symlink]
    for name in links:
        if not subject.exists(name.encode()):
            yield error(f"/{name} is a link to nothing", subject.again("the image again"))
    folders = [name for name in ("bin", "lib") if (entry := entries[name]) is not None and entry.is_directory]
    if folders and {"bin", "lib"} & set(links):
        both = f"/{folders[0]} is a folder where /{links[0]} is a link into /usr"
        yield warning(
            f"its /usr is merged by half: {both}; programs may be looked for in vain", _merge_fix(subject, folders[0])
        )


def _merge_fix(subject: Subject, folder: str) -> str:
    script = f"cp -a /{folder}/. /usr/{folder}/ && mv /{folder} /{folder}.old && ln -s usr/{folder} /{folder}"
    return f"with the tools of this server: cd $({subject.command} show {subject.name}) && " + script.replace(" /", " ./")


def stage1_tools(subject: Subject) -> Iterator[Finding]:
    missing = [(word, package) for word, programs, package in STAGE1_TOOLS if subject.program(*programs) is None]
    if missing:
        wanted = " ".join(package for _, package in missing)
        redhat = wanted.replace("iproute2", "iproute")
        yield note(
            f"a two-stage boot could not be assembled from it: it lacks {listed([word for word, _ in missing], 7)}",
            subject.install("them", everywhere(wanted) | {"redhat": redhat}),
        )


def extended_attributes(subject: Subject) -> Iterator[Finding]:
    """File capabilities, labels and ACLs do not fit into an initramfs; the tool that restores them is carried along."""
    if subject.architecture in CODE:
        return
    found = [shown(entry.path) for entry in subject.view if subject.xattrs(entry)]
    if found:
        yield warning(
            f"{len(found)} files have capabilities, labels or ACLs ({listed(found, 2)}), which a node of architecture "
            f"{subject.architecture} cannot restore",
            f"there is a tool that restores them for {listed(sorted(CODE))}",
        )
