"""Our Go templates against Jinja2: one overlay, written in both languages, rendered for every node in this process."""

from collections.abc import Callable, Sequence

from context import Context
from figures import Comparison, Kind, Subject, Target
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from measure import Call

from images.errors import Error
from netboot.gotemplate.template import Template
from netboot.gotemplate.values import MISSING, Value

NODES = 1_000
QUICK = 100
RENDERED_HOSTS = 20
"""How many nodes get the hosts file, which has all nodes in it."""
SHARE = Target(kind=Kind.SHARE, bound=3)

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


def measure(context: Context) -> Subject:
    nodes = [node(number) for number in range(1, 1 + (QUICK if context.quick else NODES))]
    return Subject(
        name="gotemplate_render",
        comparisons=(
            _compare(context, "a network file for each node", GO, JINJA, nodes, len(nodes)),
            _compare(context, "a file with all nodes in it", GO + GO_HOSTS, JINJA + JINJA_HOSTS, nodes, RENDERED_HOSTS),
        ),
    )


def _compare(context: Context, work: str, go: str, jinja: str, nodes: Sequence[dict[str, Value]], times: int) -> Comparison:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    theirs, ours = environment.from_string(jinja), Template.parse("bench", go)
    every = [Struct(**fields) for fields in nodes]

    def render_ours(fields: dict[str, Value]) -> str:
        return ours.execute({**fields, "AllNodes": every})

    def render_theirs(fields: dict[str, Value]) -> str:
        return theirs.render(**fields, AllNodes=every)

    if render_ours(nodes[0]).split() != render_theirs(nodes[0]).split():
        raise Error(f"{work}: the two engines disagree")

    def call(render: Callable[[dict[str, Value]], str], description: str) -> Call:
        def run() -> None:
            for fields in nodes[:times]:
                render(fields)

        return Call(function=run, description=description)

    what = f"{work}, {times} of {len(nodes)} nodes"
    mine, peer = context.in_turn([call(render_ours, "netboot.gotemplate"), call(render_theirs, "jinja2")])
    return Comparison(work=what, ours=mine, peer=peer, target=SHARE)
