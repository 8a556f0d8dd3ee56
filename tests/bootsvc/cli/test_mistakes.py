"""What is mistyped or cannot be: one sentence, a hint, the right exit status, and files that stay as they were."""

from collections.abc import Iterator

import pytest
from warewulf_site import Site, site

from bootsvc.entries import parse
from bootsvc.registry import Registry
from bootsvc.store import Store
from bootsvc.yamlfile import YamlError

__all__ = ["site"]


@pytest.mark.parametrize(
    ("line", "code", "error", "hint"),
    [
        ("node list n011", 1, "there is no node 'n011'", "did you mean 'n01'?"),
        ("node list -j x", 1, "there is no node 'x'", "these exist: g01, g02, n01, n02, s01.storage, spare"),
        ("node ls n[01-", 1, "host list 'n[01-', column 2: [ without ] after it", "n[01-03,5] stands for n01 n02 n03 n5"),
        ("profile list gpuu", 1, "there is no profile 'gpuu'", "did you mean 'gpu'?"),
        ("node export n0[1", 1, "host list 'n0[1', column 3: [ without ] after it", "n[01-03,5]"),
        ("node delete -y g0", 1, "there is no node 'g0'", "did you mean 'g02'?"),
        ("node lits", 2, "`wwctl node` has no command 'lits'", "did you mean `wwctl node list`?"),
        ("nod list", 2, "`wwctl` has no command 'nod'", "did you mean `wwctl node`?"),
        ("node list --jsno", 2, "`wwctl node list` has no flag --jsno", "did you mean --json?"),
        ("node set n01 --hwadr 1", 2, "`wwctl node set` has no flag --hwadr", "did you mean --hwaddr?"),
        ("node set n01 --image rocky-8 -y", 1, "there is no image 'rocky-8'", "did you mean 'rocky-9'?"),
        ("image show rocky9", 1, "there is no image 'rocky9'", "did you mean 'rocky-9'?"),
        ("container list debain-12", 1, "there is no image 'debain-12'", "did you mean 'debian-12'?"),
        ("overlay list hostnme", 1, "there is no overlay 'hostnme'", "did you mean 'hostname'?"),
        ("power on n01", 2, "`wwctl` has no command 'power'", "bootsvc does not talk to BMCs"),
        ("node console n01", 2, "`wwctl node` has no command 'console'", "bootsvc does not talk to BMCs"),
        ("image exec --build=maybe rocky-9 true", 2, "invalid value for '--build': 'maybe' is not a valid boolean",
         "write true or false"),
        ("server --json", 2, "--json goes with --check", "`wwctl server --help` shows how it is used"),
        ("server --check --install-unit", 2, "--check changes nothing, and --install-unit does: give one of them",
         "`wwctl server --help` shows how it is used"),
        ("--warewulfconf /nonexistent node list", 1, "/nonexistent: no such file", "--warewulfconf and $WAREWULFCONF"),
        ("node set n01 -y --netname p2 --hwaddr 52:54:00:12:34:56", 1,
         "node n01: two of its networks have the hwaddr 52:54:00:12:34:56", "give one of them another one"),
    ],
)  # fmt: skip
def test_a_sentence_and_a_hint(site: Site, line: str, code: int, error: str, hint: str) -> None:
    before = site.nodes_conf.read_bytes()
    result = site.wwctl(line)
    sentence, said, *more = result.err.splitlines()
    assert (result.code, result.out, sentence, more) == (code, "", f"wwctl: {error}", [])
    assert said.startswith(f"({hint}")
    assert site.nodes_conf.read_bytes() == before


def test_what_exists_beside_a_mistake_is_shown(site: Site) -> None:
    code, out, err = site.wwctl("node list n02,n3,n01")
    assert (code, [line.split()[0] for line in out.splitlines()[2:]]) == (0, ["n01", "n02"])
    assert "there is no node 'n3'" in err


def _unprintable() -> Iterator[tuple[str, str]]:
    for bad in ("\n", "\t", "\x07", "\x1b[2J", "\x7f", "\x9b", "\u2028", "\udcff"):
        yield "--comment", f"a{bad}b"
    others = "--init=/x{} --tagadd=rack={}7 --tagadd=ra{}ck=7 --diskname=/dev/{}a --ipmipass=a{} --kernelargs=q{} --netdel=d{}t"
    for other in others.split():
        flag, _, value = other.partition("=")
        yield flag, value.format("\x1b")


@pytest.mark.parametrize(("flag", "value"), list(_unprintable()))
def test_control_characters_are_refused(site: Site, flag: str, value: str) -> None:
    before = site.nodes_conf.read_bytes()
    code, out, err = site.wwctl("node set n01 -y", flag, value)
    assert (code, out) == (1, "")
    assert f"{flag}: " in err
    assert "control character" in err
    assert not set(err) & set(map(chr, [*range(9), *range(11, 32), 0x7F, 0x9B, 0x2028, 0xDCFF]))
    assert site.nodes_conf.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "nodes: [",
        "nodes: {",
        "nodes: [a b",
        "nodes:\n  n1: x\n",
        "nodes:\n- a\n",
        "- a\n",
        "nodes:\n\tn1: {}\n",
        "nodes:\n  n1:\n    comment: a: b\n",
        "nodes:\n  n1:\n    comment: 'a\n",
        "nodes:\n  n1:\n    comment: a\n   init: b\n",
        "nodes:\n  n1:\n    comment\n  n2: {}\n",
        "nodes: &a\n  n1: *a\n",
        "nodes:\n  n1: *b\n",
        "nodes:\n  n1:\n    comment: !!python/x 1\n",
        "nodes:\n  ? [a]\n  : 1\n",
        "nodes:\n  n1:\n    <<: 3\n",
        "nodes:\n  n1: {}\n  n1: {}\n",
        "a\x07b",
        "---\na: 1\n---\nb: 2\n",
    ],
)
def test_a_file_that_cannot_be_read_is_explained(site: Site, text: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text, site.nodes_conf)
    assert caught.value.message.startswith(f"{site.nodes_conf}:{caught.value.line}:{caught.value.column}:")
    assert caught.value.hint


def test_a_value_that_cannot_be_is_explained_in_words(site: Site) -> None:
    site.nodes_conf.write_text("nodes:\n  a: {kernel: 5}\n  b: {kernel: {args: q}}\n  c: {disks: {d: {wipe_table: x}}}\n")
    assert [problem.split(": ", 1)[1] for problem in Registry.build(Store(site.nodes_conf).load()).problems] == [
        "kernel: expected keys and values, got text; the node is left out",
        "kernel.args: expected a list, got text; the node is left out",
        "disks[...].wipe_table: expected true or false, got text; the node is left out",
    ]


def test_warewulfs_hidden_flags(site: Site) -> None:
    assert site.wwctl("--emptyconf version").code == 0
    assert site.wwctl("--loglevel 10 node list n01").code == 0
    # No file is read: the nodes would be those of /etc/warewulf.
    site.warewulf_conf.write_text("warewulf: [")
    assert site.wwctl("version --emptyconf").code == 0
    assert site.wwctl("overlay list --emptyconf hosts").code == 0


def test_a_bond_may_have_the_address_of_its_port(site: Site) -> None:
    assert site.wwctl("node set s01.storage -y --comment x").code == 0
    result = site.wwctl("node add s02.storage -P storage --hwaddr 52:54:00:00:02:01")
    assert (result.code, result.err) == (0, "")
    result = site.wwctl("node set s02.storage -y --netname port1 --hwaddr 52:54:00:00:02:01")
    assert (result.code, result.err) == (0, "")
    result = site.wwctl("node set s02.storage -y --netname port2 --hwaddr 52:54:00:00:02:01")
    assert result.err.startswith("wwctl: node s02.storage: two of its networks have the hwaddr 52:54:00:00:02:01\n")
