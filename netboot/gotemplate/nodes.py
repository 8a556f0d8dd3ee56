"""The tree of a parsed template; `str()` of an expression is how Go's messages show it.

`pos` is the index in the text that Go's messages point at.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from netboot.gotemplate.constants import Constant
from netboot.gotemplate.quoting import quote


@dataclass(frozen=True, slots=True)
class Text:
    pos: int
    text: str


@dataclass(frozen=True, slots=True)
class Dot:
    pos: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil:
    pos: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Bool:
    pos: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True)
class Number:
    pos: int
    source: str
    constant: Constant

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class String:
    pos: int
    source: str
    text: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Identifier:
    """The name of a function."""

    pos: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B`."""

    pos: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.A.B`; the name has its dollar."""

    pos: int
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.fields))


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).A.B`."""

    pos: int
    node: "Operand"
    fields: tuple[str, ...]

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return ".".join((inner, *self.fields))


@dataclass(frozen=True, slots=True)
class Command:
    """An operand with its arguments."""

    pos: int
    args: tuple["Operand", ...]

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipe) else str(arg) for arg in self.args)


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each the last argument of the next; the value goes to the variables of `decl`."""

    pos: int
    decl: tuple[Variable, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        names = ", ".join(map(str, self.decl)) + (" = " if self.assigns else " := ") if self.decl else ""
        return names + " | ".join(map(str, self.commands))


@dataclass(frozen=True, slots=True)
class Action:
    pos: int
    pipe: Pipe

    def __str__(self) -> str:
        return "{{" + str(self.pipe) + "}}"


@dataclass(frozen=True, slots=True)
class Body:
    nodes: tuple["Node", ...] = ()


@dataclass(frozen=True, slots=True)
class Branches:
    """`if` or `with`: the first pipeline that is true chooses its body."""

    pos: int
    moves_dot: bool
    branches: tuple[tuple[Pipe, Body], ...]
    otherwise: Body | None


@dataclass(frozen=True, slots=True)
class Range:
    pos: int
    pipe: Pipe
    body: Body
    otherwise: Body | None


@dataclass(frozen=True, slots=True)
class Call:
    """`{{template "name" pipeline}}`."""

    pos: int
    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        return "{{template " + quote(self.name) + (f" {self.pipe}" if self.pipe else "") + "}}"


@dataclass(frozen=True, slots=True)
class Break:
    pos: int


@dataclass(frozen=True, slots=True)
class Continue:
    pos: int


Operand: TypeAlias = Dot | Nil | Bool | Number | String | Identifier | Field | Variable | Chain | Pipe
Node: TypeAlias = Text | Action | Branches | Range | Call | Break | Continue
Shown: TypeAlias = Operand | Command | Action | Call


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed text: the bodies by name (its own, and those of define and block), and the functions that it uses."""

    name: str
    text: str
    bodies: dict[str, Body] = field(default_factory=dict)


def is_empty(body: Body) -> bool:
    """Whether a definition says nothing, so that a later one of the same name may replace it."""
    return all(isinstance(node, Text) and not node.text.strip() for node in body.nodes)
