"""Expressions to closures: operands, commands and pipelines, with the variables of a definition as slots of its frame."""

from collections.abc import Collection

from netboot.gotemplate.builtins import BUILTINS, CALL, SHORT_CIRCUIT
from netboot.gotemplate.calls import Arguments
from netboot.gotemplate.fields import compile_fields, compile_method
from netboot.gotemplate.frames import DOLLAR, FIRST_VARIABLE, STATE, UNSET, Expr, Frame, Place, Run, dug
from netboot.gotemplate.nodes import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Nil,
    Number,
    Operand,
    Pipe,
    Shown,
    String,
    Tree,
    Variable,
)  # fmt: skip
from netboot.gotemplate.shortcuts import compile_builtin, compile_call
from netboot.gotemplate.values import MISSING, Value, is_true
from netboot.gotemplate.variables import Variables


class ExpressionCompiler:
    """Compiles the expressions of one definition; `used` numbers those of `functions` that it calls."""

    def __init__(self, tree: Tree, definition: str, functions: Collection[str], used: dict[str, int]) -> None:
        self.tree = tree
        self.definition = definition
        self.functions = functions
        self.used = used
        self.variables = Variables(DOLLAR)
        self.slots = FIRST_VARIABLE
        self.maybe = 0  # inside arguments that `and` and `or` may skip
        self.unsure: set[int] = set()  # slots that may be read before they are written

    def place(self, node: Shown) -> Place:
        return Place(self.tree.name, self.tree.text, self.definition, node)

    def declare(self, name: str) -> int:
        slot = self.slots
        self.slots += 1
        self.variables.declare(name, slot)
        if self.maybe:
            self.unsure.add(slot)
        return slot

    def pipeline(self, pipe: Pipe, *, raw: bool = False) -> Expr:
        """The value of a pipeline; with `raw`, nil may come as None instead of MISSING where no one can tell."""
        expr: Expr | None = None
        last = self.place(pipe)
        for command in pipe.commands:
            piped = expr and expr._replace(run=dug(expr.run))
            expr = self.command(command, piped, last)
            last = expr.last
        assert expr is not None  # the parser refuses empty pipelines
        run = expr.run if raw and not pipe.decl else dug(expr.run)
        for variable in pipe.decl:
            run = self.store(run, variable, last, assigns=pipe.assigns)
        return Expr(run, last)

    def store(self, run: Run, variable: Variable, last: Place, *, assigns: bool) -> Run:
        slot = self.variables.slot(variable.name) if assigns else self.declare(variable.name)
        if slot is None:
            return _fails(run, last, f"undefined variable: {variable.name}")

        def keep(frame: Frame, dot: Value) -> Value:
            value = frame[slot] = run(frame, dot)
            return value

        return keep

    def command(self, command: Command, final: Expr | None, last: Place) -> Expr:
        first = command.args[0]
        given = command.args[1:]
        place = self.place(first)
        match first:
            case Identifier():
                return self.function(first, given, final, self.place(command))
            case Field() | Chain():
                return self.fields(first, given, final)
            case Variable() if first.fields:
                return self.fields(first, given, final)
            case Pipe():
                place = last
        if given or final:
            reason = f"can't give argument to non-function {first}"
            return Expr(_fails(final.run if final else None, place, reason), place)
        if isinstance(first, Nil):
            return Expr(_fails(None, place, "nil is not a command"), place)
        return self.operand(first)

    def operand(self, node: Operand) -> Expr:
        """A term where it takes no arguments: an argument itself, or alone in its command."""
        place = self.place(node)
        match node:
            case Dot():
                return Expr(_dot, place)
            case Nil():
                return Expr(_constant(MISSING), place, node)
            case Bool():
                return Expr(_constant(node.value), place, node)
            case String():
                return Expr(_constant(node.text), place, node)
            case Number():
                if node.constant.value is None:
                    return Expr(_fails(None, place, f"{node} overflows int"), place, node)
                return Expr(_constant(node.constant.value), place, node)
            case Pipe():
                return self.pipeline(node)
            case Identifier():
                return self.function(node, (), None, place)
            case Variable() if not node.fields:
                return Expr(self.variable(node, place), place)
        return self.fields(node, (), None)

    def variable(self, node: Variable, place: Place) -> Run:
        slot = self.variables.slot(node.name)
        if slot is None:
            return _fails(None, place, f"undefined variable: {node.name}")
        if slot not in self.unsure:
            return _variable(slot)

        def read(frame: Frame, dot: Value) -> Value:
            value = frame[slot]
            if value is UNSET:
                raise place.error(f"undefined variable: {node.name}")
            return value

        return read

    def fields(self, node: Field | Chain | Variable, given: tuple[Operand, ...], final: Expr | None) -> Expr:
        place = self.place(node)
        names: list[str] = list(node.names if isinstance(node, Field) else node.fields)
        base: Run | None = None
        slot: int | None = None
        if isinstance(node, Chain):
            if isinstance(node.node, Nil):
                return Expr(_fails(None, place, f"indirection through explicit nil in {node}"), place)
            inner = self.operand(node.node)
            base, place = inner.run, inner.last  # Go looks at the chain as a whole only when a method of it fails
        elif isinstance(node, Variable):
            slot = self.variables.slot(node.name)
            if slot is None or slot in self.unsure:
                base, slot = self.variable(node, place), None
        whole = self.place(node)
        if not given and final is None:
            return Expr(compile_fields([Arguments(name, (), None, place, whole) for name in names], base, slot), place)
        if len(names) > 1:
            base = compile_fields([Arguments(name, (), None, place, whole) for name in names[:-1]], base, slot)
        elif base is None:
            base = _dot if slot is None else _variable(slot)
        arguments = Arguments(names[-1], [self.operand(arg) for arg in given], final, place, whole)
        last = arguments.given[-1].last if arguments.given else place
        return Expr(compile_method(base, arguments), last)

    def function(self, node: Identifier, given: tuple[Operand, ...], final: Expr | None, command: Place) -> Expr:
        start = self.place(node)
        number = self.used.setdefault(node.name, len(self.used)) if node.name in self.functions else None
        if number is None and node.name in SHORT_CIRCUIT:
            return self.short_circuit(node.name, given, final, start)
        args = [self.operand(arg) for arg in given]
        last = args[-1].last if args else start
        arguments = Arguments(node.name, args, final, start, command)
        if number is None and node.name == CALL:
            callee = str(given[0]) if given else str(final.last.node) if final else ""
            return Expr(compile_call(arguments, callee), last)
        if number is None:
            return Expr(compile_builtin(BUILTINS[node.name], arguments), last)

        def run(frame: Frame, dot: Value) -> Value:
            target = frame[STATE].functions[number]
            if target is None:
                raise start.error(f'"{node.name}" is not a defined function')
            return arguments.call(target, frame, dot, final.run(frame, dot) if final else MISSING)

        return Expr(run, last)

    def short_circuit(self, name: str, given: tuple[Operand, ...], final: Expr | None, start: Place) -> Expr:
        """`and` and `or`: the first argument that decides, or the last."""
        first = [self.operand(given[0])] if given else []
        self.maybe += 1
        args = [*first, *(self.operand(arg) for arg in given[1:])]
        runs = tuple(expr.run for expr in args)
        last = args[-1].last if args else start
        self.maybe -= 1
        if not runs and final is None:
            return Expr(_fails(None, start, f"wrong number of args for {name}: want at least 1 got 0"), start)
        decides = name == "or"
        piped = final.run if final else None

        def run(frame: Frame, dot: Value) -> Value:
            through = piped(frame, dot) if piped else MISSING
            value: Value = MISSING
            for one in runs:
                value = one(frame, dot)
                if is_true(value) is decides:
                    return value
            return through if piped else value

        return Expr(run, last)


def _dot(frame: Frame, dot: Value) -> Value:
    return dot


def _variable(slot: int) -> Run:
    return lambda frame, dot: frame[slot]


def _constant(value: Value) -> Run:
    return lambda frame, dot: value


def _fails(before: Run | None, place: Place, reason: str) -> Run:
    """An expression that Go refuses only when it is executed, after what stands before it."""

    def fail(frame: Frame, dot: Value) -> Value:
        if before is not None:
            before(frame, dot)
        raise place.error(reason)

    return fail
