"""How long our Go templates take beside Jinja2: one overlay, written in both languages, rendered for every node.

Run by path (`.venv/bin/python bench/gotemplate_render.py`); prints milliseconds for one node, and their ratio.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from netboot.gotemplate.template import Template
from netboot.gotemplate.values import MISSING, Value

GO = """# {{ .Id }}, made by {{ .Overlay }}
127.0.0.1 localhost
{{- $me := .Id }}
{{- range $name, $dev := .NetDevs }}
{{- if and $dev.OnBoot $dev.Ipaddr }}
[Match]
Name={{ $dev.Device }}
MACAddress={{ $dev.Hwaddr }}
[Network]
Address={{ $dev.Ipaddr }}/{{ $dev.Prefix }}
{{- if $dev.Gateway }}
Gateway={{ $dev.Gateway }}
{{- end }}
{{- if $dev.MTU }}
MTU={{ $dev.MTU }}
{{- else }}
MTU=1500
{{- end }}
{{- range $dev.DNS }}
DNS={{ . }}
{{- end }}
Description={{ printf "%s of %s" $name $me }}
{{- end }}
{{- end }}
{{- with .Kernel }}
kernel {{ .Version }} {{ range .Args }}{{ . }} {{ end }}
{{- end }}
"""

GO_HOSTS = """
{{- range $node := .AllNodes }}
{{- if ne $node.Id $me }}
{{- range $name, $dev := $node.NetDevs }}
{{- if $dev.Ipaddr }}
{{ $dev.Ipaddr }} {{ $node.Id }}{{ if eq $name "default" }} {{ $node.Id }}.{{ $.Domain }}{{ else }}-{{ $name }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
"""

JINJA = """# {{ Id }}, made by {{ Overlay }}
127.0.0.1 localhost
{%- set me = Id %}
{%- for name, dev in NetDevs|dictsort %}
{%- if dev.OnBoot and dev.Ipaddr %}
[Match]
Name={{ dev.Device }}
MACAddress={{ dev.Hwaddr }}
[Network]
Address={{ dev.Ipaddr }}/{{ dev.Prefix }}
{%- if dev.Gateway %}
Gateway={{ dev.Gateway }}
{%- endif %}
{%- if dev.MTU %}
MTU={{ dev.MTU }}
{%- else %}
MTU=1500
{%- endif %}
{%- for server in dev.DNS %}
DNS={{ server }}
{%- endfor %}
Description={{ "%s of %s"|format(name, me) }}
{%- endif %}
{%- endfor %}
{%- if Kernel %}
kernel {{ Kernel.Version }} {% for arg in Kernel.Args %}{{ arg }} {% endfor %}
{%- endif %}
"""

JINJA_HOSTS = """
{%- for node in AllNodes %}
{%- if node.Id != me %}
{%- for name, dev in node.NetDevs|dictsort %}
{%- if dev.Ipaddr %}
{{ dev.Ipaddr }} {{ node.Id }}{% if name == "default" %} {{ node.Id }}.{{ Domain }}{% else %}-{{ name }}{% endif %}
{%- endif %}
{%- endfor %}
{%- endif %}
{%- endfor %}
"""


class Struct:
    """One record for both engines: attributes for Jinja2, the methods of `Record` for ours."""

    def __init__(self, **fields: Value) -> None:
        self.__dict__.update(fields)

    def go_type(self) -> str:
        return "*node.Node"

    def go_field(self, name: str) -> Value:
        return self.__dict__.get(name, MISSING)

    def go_method(self, name: str) -> None:
        return None

    def go_string(self) -> str:
        return "{}"


def node(number: int) -> dict[str, Value]:
    devices = {
        name: Struct(
            Device=name, OnBoot=True, Ipaddr=f"10.{net}.{number // 256}.{number % 256}", Prefix=16, MTU="", DNS=["10.0.0.1"],
            Hwaddr=f"02:00:00:00:{number // 256:02x}:{number % 256:02x}", Gateway="" if net else "10.0.0.1",
        )
        for net, name in enumerate(("default", "ib0"))
    }  # fmt: skip
    kernel = Struct(Version="6.1.0", Args=["quiet", "crashkernel=no"])
    return {"Id": f"n{number:04}", "Domain": "cluster", "Overlay": "bench", "NetDevs": devices, "Kernel": kernel}


def milliseconds(render: Callable[[int], str], times: int) -> float:
    """CPU time of one rendering, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for number in range(times):
            render(number)
        best = min(best, (time.process_time() - start) / times * 1000)
    return best


def compare(name: str, go: str, jinja: str, nodes: list[dict[str, Value]], times: int) -> None:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    theirs, ours = environment.from_string(jinja), Template.parse(name, go)
    every = [Struct(**fields) for fields in nodes]

    def render_ours(number: int) -> str:
        return ours.execute({**nodes[number % len(nodes)], "AllNodes": every})

    def render_theirs(number: int) -> str:
        return theirs.render(**nodes[number % len(nodes)], AllNodes=every)

    if render_ours(1).split() != render_theirs(1).split():
        raise SystemExit(f"{name}: the two engines disagree")
    mine, other = milliseconds(render_ours, times), milliseconds(render_theirs, times)
    print(f"{name:8} ours {mine:7.3f} ms  jinja2 {other:7.3f} ms  ratio {mine / other:.2f}")


def main() -> None:
    nodes = [node(number) for number in range(1, 1001)]
    compare("network", GO, JINJA, nodes, 1000)
    compare("hosts", GO + GO_HOSTS, JINJA + JINJA_HOSTS, nodes, 20)


if __name__ == "__main__":
    main()
