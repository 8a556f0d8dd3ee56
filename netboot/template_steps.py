"""What a Jinja2 template may cost in work: its loops, macros and calls are counted, and the size of what they go over.

Nothing can stop a thread of Python from outside, and a clock would let a good template fail on a busy machine: so the
counting is put into the template itself, between reading it and compiling it.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.visitor import NodeTransformer

from netboot.reads import members

MAX_STEPS = 2_000_000
"""Rounds of loops, calls, and members of what is gone over, in one rendering: at most some ten seconds."""
CALL = 4
"""Steps of a call, which takes longer than a round of a loop."""
CHARACTERS = 64
"""Characters of a text that are one step."""
BUDGET = " budget"
"""Where a rendering finds what is left; like the filters below, a name that no template can write."""
_STEP, _GO_OVER = " step", " go over"
_REPEATING = ("replace", "join", "indent", "tojson", "wordwrap")
_FILLING = ("center", "ljust", "rjust", "zfill", "expandtabs", "tojson")
_LISTING = ("batch", "slice")
_FORMATTING = ("format", "format_map", "%")
_BUILT = (list, tuple, dict, set)
_METHOD = type("".upper)


class Budget:
    """What is left of one rendering's steps."""

    __slots__ = ("_left", "_steps")

    def __init__(self, steps: int) -> None:
        self._left = self._steps = steps

    def charge(self, steps: int) -> None:
        """Raises ValueError when nothing is left."""
        self._left -= steps
        if self._left < 0:
            raise ValueError(f"it takes more than {self._steps} steps: loops in loops, or over too much")


def count(tree: nodes.Template) -> nodes.Template:
    """The same template, whose rendering counts its steps; the values need a Budget under the name BUDGET."""
    return _Counting().visit(tree)  # type: ignore[no-any-return]


def charge_call(context: Context, called: object, arguments: Iterable[object]) -> None:
    """A call of a function, a macro or a method: what it may go over, and how long a text it may make."""
    arguments = tuple(arguments)
    # The sandbox gives a function of its own for a text's `format`.
    called = getattr(called, "__wrapped__", called)
    owner = getattr(called, "__self__", None) if isinstance(called, _METHOD) else None
    name = str(getattr(called, "__name__", "")) if isinstance(owner, str) else ""
    _budget(context).charge(CALL + _cost(name, owner, arguments))


def charge_format(context: Context, text: str, values: object) -> None:
    """`text % values`."""
    _budget(context).charge(_cost("%", text, values if isinstance(values, tuple) else (values,)))


@pass_context
def _step(context: Context, cost: int) -> bool:
    _budget(context).charge(cost)
    return True


@pass_context
def _go_over(context: Context, value: Any, name: str = "", *arguments: object) -> Any:
    """The value as it is; `name` is the filter that is to go over it, with these arguments."""
    cost = _cost(name, value, arguments)
    if cost:
        _budget(context).charge(cost)
    return value


FILTERS: dict[str, Callable[..., Any]] = {_STEP: _step, _GO_OVER: _go_over}
"""What `count` puts into a template."""


def _budget(context: Context) -> Budget:
    found = context.parent[BUDGET]
    assert isinstance(found, Budget)
    return found


def _cost(name: str, value: object, arguments: tuple[object, ...]) -> int:
    """Steps of what goes over these values, and of a text or list that is longer than what it is made of."""
    cost = _size(value) + sum(map(_size, arguments))
    if name in _FILLING or name in _LISTING:
        numbers = sum(abs(one) for one in arguments if isinstance(one, int))
        cost += numbers if name in _LISTING else numbers // CHARACTERS
    if name in _REPEATING and isinstance(value, str | list | tuple):
        cost += len(value) * max(map(_times, arguments), default=0) // CHARACTERS
    if name == "join" and isinstance(value, list | tuple):
        cost += sum(map(_size, value))
    if name == "sum" and isinstance(value, list | tuple) and any(type(one) in _BUILT for one in arguments):
        # Each addition copies all that was added before.
        cost += len(value) * sum(map(_size, value))
    if name in _FORMATTING and isinstance(value, str):
        widths = sum(int(digits[:12]) for digits in re.findall("[0-9]+", value))
        if "*" in value or re.search(r"\{[^{}]*\{", value):
            widths += sum(abs(one) for one in arguments if isinstance(one, int))
        cost += widths // CHARACTERS
    return cost


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value) // CHARACTERS
    return len(value) if isinstance(value, _BUILT) else members(value)


def _times(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else value if isinstance(value, int) else 0


class _Counting(NodeTransformer):
    def __init__(self) -> None:
        # How many constructs are around that gather their text, and so keep it from those who count what is written.
        self._gathering = 0

    def visit_For(self, node: nodes.For) -> nodes.For:
        self._inside(node, gathers=node.recursive)
        step = _call(nodes.Const(_text_size(node), lineno=node.lineno), _STEP)
        if node.test is None:
            node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        else:
            # What the condition leaves out is gone over, too.
            node.test = nodes.And(step, node.test, lineno=node.lineno)
        return node

    def _inside(self, node: nodes.Node, *, gathers: bool = True) -> nodes.Node:
        self._gathering += gathers
        self.generic_visit(node)
        self._gathering -= gathers
        return node

    visit_AssignBlock = visit_FilterBlock = _inside

    def _body(self, node: Any) -> nodes.Node:
        self._inside(node)
        step = _call(nodes.Const(_text_size(node), lineno=node.lineno), _STEP)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node  # type: ignore[no-any-return]

    visit_Macro = visit_CallBlock = visit_Block = _body

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        if self._gathering:
            node.nodes = [_went_over(child) for child in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:
        self.generic_visit(node)
        node.nodes = [_went_over(child) for child in node.nodes]
        return node

    def visit_Add(self, node: nodes.Add) -> nodes.Add:
        self.generic_visit(node)
        node.left, node.right = _went_over(node.left), _went_over(node.right)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        if not all(isinstance(operand.expr, nodes.Const) for operand in node.ops):
            node.expr = _went_over(node.expr)
        for operand in node.ops:
            if operand.op in ("in", "notin"):
                operand.expr = _went_over(operand.expr)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Test:
        self.generic_visit(node)
        node.args = [_went_over(argument) for argument in node.args or ()]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _went_over(node.node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:
        self.generic_visit(node)
        if node.node is not None:
            makes = node.name in (*_REPEATING, *_FILLING, *_LISTING, *_FORMATTING, "sum")
            arguments = [nodes.Const(node.name), *node.args, *(pair.value for pair in node.kwargs)] if makes else []
            node.node = _call(node.node, _GO_OVER, arguments)
        return node


def _went_over(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const | nodes.TemplateData) else _call(node, _GO_OVER)


def _call(node: nodes.Expr, name: str, arguments: Iterable[nodes.Expr] = ()) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _text_size(node: nodes.Node) -> int:
    """Steps of one round: itself, and the text that stands in it."""
    return 1 + sum(len(text.data) for text in node.find_all(nodes.TemplateData)) // CHARACTERS
