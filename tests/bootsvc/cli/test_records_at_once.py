"""Two hundred commands at once on one nodes.conf, while somebody reads it again and again."""

import os
import subprocess
import sys
from pathlib import Path

from head_node import WWCTL

from bootsvc.store import Store

# Each command is a process of its own, forked when everything is imported: 200 interpreters would only load the machine.
AT_ONCE = """
import os, sys
from bootsvc.cli import records
from bootsvc.cli.main import run
children = []
for index in range(100):
    for words in (["set", "-y", f"n{index}", "--comment", f"set {index}"], ["add", f"new{index}", "--tagadd", f"a={index}"]):
        child = os.fork()
        if not child:
            sys.stdout = open(os.devnull, "w")
            os._exit(run(["node", *words]))
        children.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
# And some as an administrator has them, several at a time.
COMMANDS = [
    [*words.split(), f"p{index}"] for index in range(6) for words in ("node add --tagadd p=1", "profile add --comment x")
]
CONF = "paths:\n  sysconfdir: {root}/etc\n  localstatedir: {root}/lib\n"


def test_no_edit_is_lost_and_every_reader_sees_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "warewulf.conf").write_text(CONF.format(root=tmp_path))
    store = Store(tmp_path / "etc/warewulf/nodes.conf")
    store.path.parent.mkdir(parents=True)
    # Large enough for the cache to take part.
    old = {f"n{index}": {"comment": "old", "init": "x" * 400} for index in range(100)}
    entries = "".join(f"  {name}: # {name}\n    comment: old\n    init: {entry['init']}\n" for name, entry in old.items())
    store.path.write_text(f"# top\nnodes:\n{entries}# end\n")
    environment = {**os.environ, "WAREWULFCONF": str(tmp_path / "warewulf.conf")}
    command = [sys.executable, "-c", AT_ONCE]
    seen = 0
    waiting = list(COMMANDS)
    running: list[subprocess.Popen[bytes]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while waiting or running or process.poll() is None:
            ended = [one for one in running if one.poll() is not None]
            assert [one.returncode for one in ended] == [0] * len(ended)
            running = [one for one in running if one not in ended]
            while waiting and len(running) < 4:
                words = [str(WWCTL), *waiting.pop()]
                running.append(subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL))
            count = len(Store(store.path).load().nodes)
            assert count >= max(seen, 100)
            seen = count
        assert process.stdout
        assert process.stderr
        assert process.stdout.read().split() == ["0"] * 200, process.stderr.read()
    nodes = store.load().nodes
    assert nodes == {
        **{f"n{index}": {"comment": f"set {index}", "init": "x" * 400} for index in range(100)},
        **{f"new{index}": {"tags": {"a": str(index)}} for index in range(100)},
        **{f"p{index}": {"tags": {"p": "1"}} for index in range(6)},
    }
    assert store.load().profiles == {f"p{index}": {"comment": "x"} for index in range(6)}
    lines = store.path.read_text().splitlines()
    assert lines[0] == "# top"
    assert "# end" in lines
    assert [line for line in lines if " # n" in line] == [f"  n{index}: # n{index}" for index in range(100)]
    assert Store(store.path, tmp_path / "lib/warewulf/bootsvc/nodes.cache").load() == store.load()
