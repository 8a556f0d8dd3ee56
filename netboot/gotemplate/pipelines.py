"""Tokens to trees: pipelines, commands and operands, with the variables that are in scope."""

from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches

from netboot.gotemplate.constants import BadConstant, parse_character, parse_number
from netboot.gotemplate.errors import ParseError
from netboot.gotemplate.lexer import Kind, Token
from netboot.gotemplate.limits import MAX_NESTING
from netboot.gotemplate.nodes import Bool, Chain, Command, Dot, Field, Identifier, Nil, Number, Operand, Pipe, String, Variable
from netboot.gotemplate.quoting import quote, unquote
from netboot.gotemplate.variables import Variables

_CONSTANTS = (Bool, Dot, Nil, Number, String)
_OPERANDS = frozenset(
    {
        Kind.BOOL, Kind.CHARACTER, Kind.COMPLEX, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.NIL, Kind.RAW_STRING,
        Kind.STRING, Kind.VARIABLE, Kind.LEFT_PAREN,
    }
)  # fmt: skip


@dataclass(slots=True)
class Scope:
    """What one definition knows while it is read: its variables, ranges around, the line where its action began (or 0)."""

    variables: Variables = field(default_factory=Variables)
    ranges: int = 0
    action_line: int = 0


class PipelineParser:
    """The tokens of one text with the place in them, and the readers of expressions."""

    def __init__(self, name: str, tokens: list[Token], functions: Collection[str]) -> None:
        self.name = name
        self.tokens = tokens
        self.last = len(tokens) - 1
        self.functions = functions
        self.at = 0
        self.furthest = 0  # index of the last token looked at; errors name its line, as Go's do
        self.depth = 0
        self.scope = Scope()

    def error(self, reason: str, *, hint: str | None = None) -> ParseError:
        return ParseError(self.name, reason, line=self.tokens[self.furthest].line, hint=hint)

    def unexpected(self, token: Token, context: str) -> ParseError:
        if token.kind is not Kind.ERROR:
            return self.error(f"unexpected {token} in {context}")
        started = ""
        if self.scope.action_line not in (0, token.line):
            action = "" if token.value.endswith(" action") else " in action"
            started = f"{action} started at {self.name}:{self.scope.action_line}"
        return self.error(f"{token}{started}")

    def nest(self, message: str) -> None:
        """Count one more level around what follows; the caller takes it off."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.error(message.format(MAX_NESTING))

    def peek(self) -> Token:
        at = self.at if self.at < self.last else self.last
        if at > self.furthest:
            self.furthest = at
        return self.tokens[at]

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def next_word(self) -> Token:
        """The next token that is no space."""
        token = self.next()
        return self.next() if token.kind is Kind.SPACE else token

    def peek_word(self) -> Token:
        """Skip spaces."""
        if self.peek().kind is Kind.SPACE:
            self.at += 1
        return self.peek()

    def expect(self, kind: Kind, context: str) -> Token:
        token = self.next_word()
        if token.kind is not kind:
            raise self.unexpected(token, context)
        return token

    def literal(self, token: Token) -> str:
        text = unquote(token.value)
        if text is None:
            raise self.error("invalid syntax")
        return text

    def pipeline(self, context: str, end: Kind) -> Pipe:
        pos = self.peek_word().pos
        decl, assigns = self.declarations(context)
        commands: list[Command] = []
        while True:
            token = self.peek_word()
            if token.kind is end:
                self.next()
                break
            if token.kind not in _OPERANDS:
                raise self.unexpected(token, context)
            commands.append(self.command())
        if not commands:
            raise self.error(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], _CONSTANTS):
                raise self.error(f"non executable command in pipeline stage {stage}")
        return Pipe(pos, decl, assigns, tuple(commands))

    def declarations(self, context: str) -> tuple[tuple[Variable, ...], bool]:
        """`$x :=`, `$x =` or, for range, `$i, $x :=` at the beginning of a pipeline: the variables, and whether it assigns."""
        decl: list[Variable] = []
        while self.peek_word().kind is Kind.VARIABLE:
            start = self.at
            token = self.next()
            following = self.peek_word()
            declares = following.kind in (Kind.DECLARE, Kind.ASSIGN)
            if not declares and (following.kind is not Kind.CHAR or following.value != ","):
                self.at = start
                break
            self.next()
            decl.append(Variable(token.pos, token.value))
            self.scope.variables.declare(token.value)
            if declares:
                return tuple(decl), following.kind is Kind.ASSIGN
            if context != "range" or len(decl) > 1:
                raise self.error(f"too many declarations in {context}")
            if self.peek_word().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.RIGHT_PAREN):
                raise self.error("range can only initialize variables")
        return tuple(decl), False

    def command(self) -> Command:
        pos = self.peek_word().pos
        args: list[Operand] = []
        while True:
            self.peek_word()
            operand = self.operand()
            if operand is not None:
                args.append(operand)
            token = self.peek()
            if token.kind in (Kind.SPACE, Kind.PIPE):
                self.next()
                if token.kind is Kind.SPACE:
                    continue
            elif token.kind not in (Kind.RIGHT, Kind.RIGHT_PAREN):
                raise self.unexpected(token, "operand")
            break
        if not args:
            raise self.error("empty command")
        return Command(pos, tuple(args))

    def operand(self) -> Operand | None:
        """A term and the fields that follow it without a space."""
        node = self.term()
        if node is None or self.peek().kind is not Kind.FIELD:
            return node
        pos = self.peek().pos
        names: list[str] = []
        while self.peek().kind is Kind.FIELD:
            names.append(self.next().value[1:])
        if isinstance(node, Field):
            return Field(pos, (*node.names, *names))
        if isinstance(node, Variable):
            return Variable(pos, node.name, (*node.fields, *names))
        if isinstance(node, _CONSTANTS):
            raise self.error(f"unexpected . after term {quote(str(node))}")
        return Chain(pos, node, tuple(names))

    def term(self) -> Operand | None:
        token = self.peek_word()
        if token.kind not in _OPERANDS:
            return None
        self.next()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.value not in self.functions:
                    raise self.unknown_function(token.value)
                return Identifier(token.pos, token.value)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.NIL:
                return Nil(token.pos)
            case Kind.VARIABLE:
                if token.value not in self.scope.variables:
                    raise self.error(f"undefined variable {quote(token.value)}")
                return Variable(token.pos, token.value)
            case Kind.FIELD:
                return Field(token.pos, (token.value[1:],))
            case Kind.BOOL:
                return Bool(token.pos, token.value == "true")
            case Kind.LEFT_PAREN:
                self.nest("parentheses are nested more than {} deep")
                pipe = self.pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
                self.depth -= 1
                return pipe
            case Kind.STRING | Kind.RAW_STRING:
                return String(token.pos, token.value, self.literal(token))
        return self.number(token)

    def unknown_function(self, name: str) -> ParseError:
        near = get_close_matches(name, self.functions, n=1)
        return self.error(f"function {quote(name)} not defined", hint=f"did you mean {near[0]}?" if near else None)

    def number(self, token: Token) -> Number:
        try:
            if token.kind is Kind.COMPLEX:
                raise BadConstant(f"complex constants are not supported: {quote(token.value)}")
            read = parse_character if token.kind is Kind.CHARACTER else parse_number
            return Number(token.pos, token.value, read(token.value))
        except BadConstant as exc:
            raise self.error(str(exc)) from None
