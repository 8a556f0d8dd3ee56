"""Statements to closures: text, actions, if, with, range and template."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import TypeAlias

from netboot.gotemplate.errors import LimitExceeded
from netboot.gotemplate.expressions import ExpressionCompiler
from netboot.gotemplate.frames import (
    FIRST_VARIABLE,
    STATE,
    UNSET,
    WRITE,
    BreakLoop,
    ContinueLoop,
    Expr,
    Frame,
    Place,
    Run,
    Step,
    charge,
)  # fmt: skip
from netboot.gotemplate.nodes import Action, Body, Branches, Break, Call, Continue, Node, Pipe, Range, Text, Tree
from netboot.gotemplate.printing import plain, show, sorted_keys
from netboot.gotemplate.values import MISSING, Shape, Value, is_true, shape_of

Definition: TypeAlias = tuple[Step, list[object]]  # what it does, and the variables of a new frame, all unset
Definitions: TypeAlias = dict[str, Definition]


def compile_tree(tree: Tree, functions: Collection[str]) -> tuple[Definitions, tuple[str, ...]]:
    """The closures of every definition of a text, and those of `functions` that they call, by the numbers they call them by."""
    definitions: Definitions = {}
    used: dict[str, int] = {}
    for name, body in tree.bodies.items():
        compiler = _Compiler(tree, name, functions, used, definitions)
        step = compiler.body(body)
        definitions[name] = (step, [UNSET] * (compiler.slots - FIRST_VARIABLE))
    return definitions, tuple(used)


class _Compiler(ExpressionCompiler):
    def __init__(
        self, tree: Tree, name: str, functions: Collection[str], used: dict[str, int], definitions: Definitions
    ) -> None:
        super().__init__(tree, name, functions, used)
        self.definitions = definitions

    def body(self, body: Body) -> Step:
        steps: list[Step] = []
        prefix = ""
        for node in body.nodes:
            if isinstance(node, Text):
                prefix += node.text
            elif isinstance(node, Action) and not node.pipe.decl:
                steps.append(self.shown(node, prefix))
                prefix = ""
            else:
                if prefix:
                    steps.append(_text(prefix))
                    prefix = ""
                steps.append(self.statement(node))
        if prefix:
            steps.append(_text(prefix))
        return _sequence(steps)

    def scoped(self, body: Body) -> Step:
        """A body whose variables end with it; the parser, like Go's, lets later branches name them."""
        known = self.variables.mark()
        step = self.body(body)
        self.variables.forget(known)
        return step

    def statement(self, node: Node) -> Step:
        match node:
            case Action():
                return self.declaration(node)
            case Branches():
                return self.branches(node)
            case Range():
                return self.range(node)
            case Call():
                return self.call(node)
            case Break():
                return _leave(BreakLoop)
            case Continue():
                return _leave(ContinueLoop)
        return _text(node.text)

    def shown(self, node: Action, prefix: str) -> Step:
        """An action that prints, with the text before it: nearly all of a template."""
        run = self.pipeline(node.pipe, raw=True).run
        place = self.place(node)

        def write_value(frame: Frame, dot: Value) -> None:
            write = frame[WRITE]
            write(prefix)
            value = run(frame, dot)
            write(value if type(value) is str else _shown(value, frame, place))

        return write_value

    def declaration(self, node: Action) -> Step:
        run = self.pipeline(node.pipe).run

        def declare(frame: Frame, dot: Value) -> None:
            run(frame, dot)

        return declare

    def branches(self, node: Branches) -> Step:
        known = self.variables.mark()
        compiled: list[tuple[Run, Step]] = []
        for pipe, body in node.branches:
            run = self.pipeline(pipe, raw=not node.moves_dot).run
            compiled.append((run, self.scoped(body)))
        otherwise = self.scoped(node.otherwise) if node.otherwise else None
        self.variables.forget(known)
        moves_dot, chain = node.moves_dot, tuple(compiled)

        def choose(frame: Frame, dot: Value) -> None:
            for run, step in chain:
                value = run(frame, dot)
                if value is True or (value is not False and is_true(value)):
                    step(frame, value if moves_dot else dot)
                    return
            if otherwise is not None:
                otherwise(frame, dot)

        return choose

    def call(self, node: Call) -> Step:
        place = self.place(node)
        run = self.pipeline(node.pipe).run if node.pipe else None
        definitions, name = self.definitions, node.name

        def call_template(frame: Frame, dot: Value) -> None:
            state = frame[STATE]
            definition = definitions.get(name)
            if definition is None:
                raise place.error(f'template "{name}" not defined')
            if state.depth >= state.limits.template_depth:
                raise place.error(f"exceeded maximum template depth ({state.limits.template_depth})")
            charge(state, place, 1)
            value = MISSING if run is None else run(frame, dot)
            state.depth += 1
            definition[0]([state, frame[WRITE], value, *definition[1]], value)
            state.depth -= 1

        return call_template

    def range(self, node: Range) -> Step:
        known = self.variables.mark()
        expr = self.pipeline(node.pipe)
        slots = self.loop_slots(node.pipe)
        body = _stoppable(self.scoped(node.body), node.body)
        otherwise = self.body(node.otherwise) if node.otherwise else None
        self.variables.forget(known)
        loop = _loop(body, slots, expr.last)
        return _range(expr, loop, otherwise, node.pipe)

    def loop_slots(self, pipe: Pipe) -> tuple[int | None, int | None]:
        """The slots of index and element."""
        found = [self.variables.slot(variable.name) for variable in pipe.decl]
        return (None, found[0]) if len(found) == 1 else (found[0], found[1]) if found else (None, None)


Loop: TypeAlias = Callable[[Frame, Iterator[tuple[Value, Value]]], None]


def _range(expr: Expr, loop: Loop, otherwise: Step | None, pipe: Pipe) -> Step:
    run, place = expr.run, expr.last

    def iterate(frame: Frame, dot: Value) -> None:
        value = run(frame, dot)
        pairs = _pairs(value, place, pipe, frame)
        if pairs is not None:
            loop(frame, pairs)
        elif otherwise is not None:
            # As in Go, a break here ends this range, though a continue goes to the one around it.
            with suppress(BreakLoop):
                otherwise(frame, dot)

    return iterate


def _pairs(value: Value, place: Place, pipe: Pipe, frame: Frame) -> Iterator[tuple[Value, Value]] | None:
    """(index, element) of everything to range over, or None when that is nothing."""
    limits = frame[STATE].limits
    match shape_of(value):
        case Shape.SLICE if isinstance(value, list | tuple):
            charge(frame[STATE], place, len(value))
            return enumerate(tuple(value)) if value else None
        case Shape.MAP if isinstance(value, dict):
            charge(frame[STATE], place, len(value))
            return iter([(key, value[key]) for key in sorted_keys(value)]) if value else None
        case Shape.INT if isinstance(value, int):
            if len(pipe.decl) > 1:
                raise place.error(f"can't use {value} to iterate over more than one variable")
            if value > limits.range_length:
                raise place.error(f"range over {value} exceeds the limit of {limits.range_length}")
            charge(frame[STATE], place, max(value, 0))
            return ((number, number) for number in range(value)) if value > 0 else None
        case Shape.MISSING | Shape.NIL:
            return None
    raise place.error(f"range can't iterate over {plain(value)}")


def _loop(body: Step, slots: tuple[int | None, int | None], place: Place) -> Loop:
    index_slot, element_slot = slots

    def loop(frame: Frame, pairs: Iterator[tuple[Value, Value]]) -> None:
        state = frame[STATE]
        tell, most = state.output.tell, state.limits.output
        for index, element in pairs:
            if index_slot is not None:
                frame[index_slot] = index
            if element_slot is not None:
                frame[element_slot] = element
            try:
                body(frame, element)
            except BreakLoop:
                break
            if tell() > most:
                charge(state, place, 0)

    return loop


def _stoppable(step: Step, body: Body) -> Step:
    """A loop's body with the effect of `continue`, where there is one."""
    if not _continues(body):
        return step

    def once(frame: Frame, dot: Value) -> None:
        try:
            step(frame, dot)
        except ContinueLoop:
            return

    return once


def _continues(body: Body) -> bool:
    for node in body.nodes:
        if isinstance(node, Continue):
            return True
        if isinstance(node, Branches):
            if any(_continues(inner) for _, inner in node.branches):
                return True
            if node.otherwise and _continues(node.otherwise):
                return True
        if isinstance(node, Range) and node.otherwise and _continues(node.otherwise):
            return True
    return False


def _shown(value: Value, frame: Frame, place: Place) -> str:
    if shape_of(value) is Shape.FUNC:
        raise place.error(f"can't print {place.node} of type func")
    try:
        return show(value, frame[STATE].limits.output)
    except LimitExceeded as exc:
        raise place.error(str(exc)) from exc


def _text(text: str) -> Step:
    def write_text(frame: Frame, dot: Value) -> None:
        frame[WRITE](text)

    return write_text


def _leave(signal: type[Exception]) -> Step:
    def leave(frame: Frame, dot: Value) -> None:
        raise signal

    return leave


def _sequence(steps: list[Step]) -> Step:
    if len(steps) == 1:
        return steps[0]
    every = tuple(steps)

    def run(frame: Frame, dot: Value) -> None:
        for step in every:
            step(frame, dot)

    return run
