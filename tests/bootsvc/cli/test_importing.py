"""`wwctl image import`: every source by its words, --force and --update, credentials and flags from the environment."""

import base64
import json
import os
import subprocess
from pathlib import Path

import oci_image as oci
import pytest
from artefacts import Artefacts
from head_node import WWCTL, HeadNode
from oci_image import Registry

pytestmark = pytest.mark.root

OURS = ("WAREWULF", "REGISTRY", "DOCKER", "XDG_")


class Site(HeadNode):
    """A head node with a home that holds nothing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "etc").mkdir()
        self.environment = {key: value for key, value in self.environment.items() if not key.startswith(OURS)}
        self.environment |= {"WAREWULFCONF": str(self.conf), "HOME": str(root / "home")}

    def images(self) -> list[str]:
        """All in the images' folder: leftovers of imports, too."""
        return sorted(path.name for path in self.chroots.glob("*") if path.suffix != ".lock")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(done: "subprocess.CompletedProcess[str]", *said: str, status: int = 1) -> None:
    """One sentence and a hint, no more."""
    lines = done.stderr.splitlines()
    assert done.returncode == status, done.stderr
    assert len(lines) == 2
    assert lines[0].startswith("wwctl: ")
    assert lines[1].startswith("(")
    for text in said:
        assert text in done.stderr


def test_every_source(site: Site, artefacts: Artefacts, registry: Registry) -> None:
    """The same image from everywhere."""
    registry.push("lab/every", "1", artefacts.image)
    artefacts.skopeo(f"oci-archive:{site.root}/oci")
    artefacts.skopeo(f"docker-archive:{site.root}/docker:rocky:9")
    subprocess.run(["tar", "-C", artefacts.tree, "-cJf", site.root / "root", "."], check=True)
    sources = {
        "registry": f"docker://{registry.host}/lab/every:1",
        "layout": f"oci:{artefacts.layout}:rocky:9",
        "oci-archive": f"oci-archive:{site.root}/oci",
        "docker-archive": f"docker-archive:{site.root}/docker:rocky:9",
        "file": f"file://{site.root}/docker",
        "path": str(site.root / "oci"),
        "tar": str(site.root / "root"),
        "folder": str(artefacts.tree),
    }
    for name, source in sources.items():
        done = site.wwctl("image", "import", source, name)
        assert done.returncode == 0, done.stderr
        assert (site.chroots / name / "rootfs/etc/os-release").read_text() == "ID=rocky\n"
    assert site.images() == sorted(sources)


def test_names_that_are_no_text(site: Site, artefacts: Artefacts) -> None:
    """A path is bytes; of what is not UTF-8, an image's history and an error say which bytes they are."""
    folder = os.fsdecode(bytes(site.root) + b"/b\xff")
    subprocess.run(["cp", "-a", artefacts.tree, folder], check=True)
    done = site.wwctl("image", "import", "--build", folder, "img", PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"Copying {site.root}/b\\udcff")
    (row,) = json.loads(site.wwctl("image", "history", "img", "--json").stdout)
    assert row["source"] == f"{site.root}/b\\xff"
    refused(site.wwctl("image", "import", folder), "'b\\xff' cannot be an image's name")
    refused(site.wwctl("image", "show", "x" * 5000), f"'{'x' * 128}…' cannot be an image's name")


def test_what_is_printed_for_a_file(site: Site, artefacts: Artefacts) -> None:
    done = site.wwctl("image", "import", f"oci:{artefacts.layout}")
    assert done.stdout.splitlines() == [
        "Setting image name: layout",
        f"Unpacking {artefacts.layout}",
        *(f"[LOG]       info unpack layer: {digest}" for digest in artefacts.image.layer_digests),
    ]


def test_a_missing_kernel_is_told_once(site: Site, artefacts: Artefacts) -> None:
    """Both the doctor and the build that an import ends with see it."""
    for args in (("container", "import"), ("image", "import", "--build")):
        done = site.wwctl(*args, f"oci:{artefacts.layout}", f"by-{args[0]}")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("no kernel") == 1, done.stderr
    assert site.wwctl("image", "build", "by-image").stderr.count("no kernel") == 1


def test_update(site: Site, registry: Registry) -> None:
    def push(text: bytes) -> None:
        members = [oci.Member("bin/sh", text, mode=0o755), oci.directory("etc")]
        registry.push("lab/cli-update", "1", oci.build([oci.layer(members)]))

    source = f"docker://{registry.host}/lab/cli-update:1"
    push(b"one")
    assert site.wwctl("image", "import", "--update", source, "img").returncode == 0
    again = site.wwctl("image", "import", "--update", source, "img")
    assert (again.returncode, again.stdout, again.stderr) == (0, "Skipping (img is up to date)\n", "")
    words = site.wwctl("container", "import", "-u", source, "img")
    assert words.stdout == "[INFO]     Skipping (img is up to date)\n"
    push(b"two")
    assert site.wwctl("image", "import", "-u", source, "img").returncode == 0
    assert (site.chroots / "img/rootfs/bin/sh").read_text() == "two"
    assert site.images() == ["img"]


def test_what_programs_get(site: Site, artefacts: Artefacts) -> None:
    """Standard output is one JSON value; what people read goes to standard error."""
    layout = f"oci:{artefacts.layout}"
    done = site.wwctl("image", "import", "--json", layout)
    row = json.loads(done.stdout)
    assert "Setting image name: layout\nUnpacking" in done.stderr
    assert (row["image"], row["unchanged"], row["digest"][:7], row["current"]) == ("layout", False, "sha256:", None)
    built = json.loads(site.wwctl("image", "build", "--json", "layout").stdout)
    assert [(one["image"], one["unchanged"], one["kernels"]) for one in built] == [("layout", False, [])]
    assert built[0]["current"] == built[0]["generation"]
    again = json.loads(site.wwctl("container", "import", "-u", "-j", layout, "layout").stdout)
    assert again == row | {"unchanged": True, "current": built[0]["generation"]}
    gone = json.loads(site.wwctl("image", "prune", "--json").stdout)
    assert gone == {"removed": True, "generations": [], "files": 0, "size": 0}
    assert site.wwctl("image", "build", "--yaml", "layout").stdout.startswith("- image: layout\n")
    refused = site.wwctl("image", "import", "--json", layout, "layout")
    assert (refused.returncode, refused.stdout) == (1, "")


def test_existing_images_are_safe(site: Site, artefacts: Artefacts, tmp_path: Path) -> None:
    layout = str(artefacts.layout)
    assert site.wwctl("image", "import", layout, "img").returncode == 0
    refused(site.wwctl("image", "import", layout, "img"), "exists already", "--force")
    refused(site.wwctl("image", "import", "--force", "--update", layout, "img"), "exclude", status=2)
    (tmp_path / "junk").write_text("junk")
    refused(site.wwctl("image", "import", "--force", str(tmp_path / "junk"), "img"), "ASCII text")
    assert (site.chroots / "img/rootfs/etc/os-release").exists()
    assert site.wwctl("image", "import", "--force", layout, "img").returncode == 0
    assert site.images() == ["img"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("docker://user:s3cret@quay.io/x", "--username"),
        ("https://user:s3cret@quay.io/x", "unknown scheme"),
        ("user:s3cret@quay.io/x", "no file or directory"),
        ("docker-daemon://user:s3cret@x", "--username"),
        ("nothing-here", "no file or directory"),
        ("oci:/no/such", "/no/such"),
        ("docker-daemon://x", "Docker engine"),
    ],
)
def test_bad_sources(site: Site, source: str, said: str) -> None:
    done = site.wwctl("image", "import", source, "img", DOCKER_HOST=f"unix://{site.root}/none")
    refused(done, said)
    assert "s3cret" not in done.stderr + done.stdout
    assert site.images() == []


def test_credentials(site: Site, private_registry: Registry) -> None:
    """By flags, by variables, and from the files that container tools keep."""
    private_registry.push("lab/cli", "1", oci.build([oci.layer([oci.Member("bin/sh", b"x", mode=0o755)])]))
    source = f"docker://{private_registry.host}/lab/cli:1"
    import_ = ("image", "import", "--force", source, "img")
    refused(site.wwctl(*import_), "refuses access", "--username")
    refused(site.wwctl(*import_, "--username", "admin"), "--password is missing", status=2)
    assert site.wwctl(*import_, "--username", "admin", "--passwd", "s:cret").returncode == 0
    variables = {"WAREWULF_OCI_USERNAME": "admin", "WAREWULF_OCI_PASSWORD": "s:cret"}
    assert site.wwctl(*import_, **variables).returncode == 0
    auth = json.dumps({"auths": {private_registry.host: {"auth": base64.b64encode(b"admin:s:cret").decode()}}})
    for path, variable in (
        (site.root / "home/.docker/config.json", {}),
        (site.root / "home/.config/containers/auth.json", {}),
        (site.root / "run/containers/auth.json", {"XDG_RUNTIME_DIR": str(site.root / "run")}),
        (site.root / "docker/config.json", {"DOCKER_CONFIG": str(site.root / "docker")}),
        (site.root / "named.json", {"REGISTRY_AUTH_FILE": str(site.root / "named.json")}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(auth)
        assert site.wwctl(*import_, **variable).returncode == 0, path
        path.unlink()
        assert site.wwctl(*import_, **variable).returncode == 1, path


def test_platform(site: Site, registry: Registry) -> None:
    built = {
        f"linux/{name}": oci.build([oci.layer([oci.Member("bin/sh", name.encode(), mode=0o755)])], architecture=name)
        for name in ("amd64", "arm64")
    }
    registry.push_index("lab/cli-platform", "1", built)
    import_ = ("image", "import", "--force", f"docker://{registry.host}/lab/cli-platform:1", "img")
    for flags, variables in (
        (["--platform", "linux/arm64"], {}),
        (["--arch", "arm64"], {}),
        ([], {"WAREWULF_OCI_PLATFORM": "arm64"}),
    ):
        assert site.wwctl(*import_, *flags, **variables).returncode == 0
        assert (site.chroots / "img/rootfs/bin/sh").read_text() == "arm64"
        assert json.loads((site.chroots / "img/source.json").read_text())["architecture"] == "arm64"
    refused(site.wwctl("image", "import", str(site.root), "--platform", "linux/"), "'linux/' is not a platform")
    refused(site.wwctl(*import_, "--platform", "linux/riscv64"), "riscv64", "linux/amd64, linux/arm64")


def test_what_cannot_be_looked_at_is_imported_all_the_same(site: Site, artefacts: Artefacts) -> None:
    """Paths longer than a path may be: no build can hold them, which is not the import's failure."""
    root = site.root / "deep"
    subprocess.run(["cp", "-a", artefacts.tree, root], check=True)
    script = 'i=0; while [ $i -lt 20 ]; do mkdir "$1" && cd -P "$1" && i=$((i+1)) || exit 1; done'
    subprocess.run(["/bin/sh", "-c", script, "sh", "d" * 250], cwd=root, check=True)
    done = site.wwctl("image", "import", str(root), "img")
    assert done.returncode == 0
    assert done.stderr.startswith("wwctl: warning: img: the tree is too deep: a path of ")
    assert site.images() == ["img"]
    refused(site.wwctl("image", "build", "img"), "the tree is too deep")
    assert site.wwctl("image", "delete", "-y", "img").returncode == 0


def test_work_goes_on_when_nobody_reads_of_it(site: Site, artefacts: Artefacts) -> None:
    read, gone = os.pipe()
    os.close(read)

    def unheard(*args: str) -> int:
        return subprocess.run(
            [WWCTL, *args], env=site.environment, stdout=gone, stderr=subprocess.DEVNULL, timeout=60, check=False
        ).returncode

    try:
        assert unheard("container", "import", f"oci:{artefacts.layout}", "one") == 0
        assert unheard("image", "copy", "--build", "one", "two") == 0
        assert unheard("image", "rename", "--build", "two", "three") == 0
        rows = json.loads(site.wwctl("image", "list", "--json").stdout)
        assert [(row["name"], row["built"]) for row in rows] == [("one", True), ("three", True)]
        assert unheard("image", "delete", "-y", "one", "three") == 0
    finally:
        os.close(gone)
    assert site.images() == []
