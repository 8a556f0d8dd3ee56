"""Tokens to trees: the statements of a template (text, if, range, with, define, block, template).

Expressions are in `pipelines`. Messages are Go's, with the line of the last token that was looked at, as Go gives it.
"""

from collections.abc import Collection

from netboot.gotemplate.lexer import Kind, Token, lex
from netboot.gotemplate.nodes import Action, Body, Branches, Break, Call, Continue, Node, Pipe, Range, Text, Tree, is_empty
from netboot.gotemplate.pipelines import PipelineParser, Scope
from netboot.gotemplate.quoting import quote

_CLOSERS = {Kind.ELSE: "{{else}}", Kind.END: "{{end}}"}


def parse(name: str, text: str, *, functions: Collection[str]) -> Tree:
    """The trees of a text. Raises ParseError with the line.

    `functions` are all names that may be called, Go's own among them.
    """
    hidden = frozenset(word for word in ("break", "continue") if word in functions)
    parser = _Parser(name, lex(text, keywords_off=hidden), functions)
    tree = Tree(name, text)
    parser.document(tree)
    return tree


class _Parser(PipelineParser):
    def document(self, tree: Tree) -> None:
        self.tree = tree
        nodes: list[Node] = []
        while self.peek().kind is not Kind.EOF:
            if self.peek().kind is Kind.LEFT and self.define():
                continue
            node = self.text_or_action()
            if isinstance(node, Token):
                raise self.error(f"unexpected {_CLOSERS[node.kind]}")
            nodes.append(node)
        self.add(tree.name, Body(tuple(nodes)))

    def define(self) -> bool:
        """Read a `{{define}}` if one begins here."""
        start = self.at
        self.next()
        if self.next_word().kind is not Kind.DEFINE:
            self.at = start
            return False
        context = "define clause"
        name_token = self.next_word()
        if name_token.kind not in (Kind.STRING, Kind.RAW_STRING):
            raise self.unexpected(name_token, context)
        name = self.literal(name_token)
        self.expect(Kind.RIGHT, context)
        self.definition(name, context)
        return True

    def definition(self, name: str, context: str) -> None:
        """The body of a define or block up to its end: a scope of its own."""
        outer, self.scope = self.scope, Scope()
        body, closer = self.body()
        if closer.kind is not Kind.END:
            raise self.error(f"unexpected {_CLOSERS[closer.kind]} in {context}")
        self.add(name, body)
        self.scope = outer

    def add(self, name: str, body: Body) -> None:
        bodies = self.tree.bodies
        if name not in bodies or is_empty(bodies[name]):
            bodies[name] = body
        elif not is_empty(body):
            raise self.error(f"template: multiple definition of template {quote(name)}")

    def body(self) -> tuple[Body, Token]:
        """Nodes up to an `else` or `end`, and that token."""
        self.nest("blocks are nested more than {} deep")
        nodes: list[Node] = []
        while self.peek_word().kind is not Kind.EOF:
            node = self.text_or_action()
            if isinstance(node, Token):
                self.depth -= 1
                return Body(tuple(nodes)), node
            nodes.append(node)
        raise self.error("unexpected EOF")

    def text_or_action(self) -> Node | Token:
        """A node, or the token of the `else` or `end` that closes the body."""
        token = self.next_word()
        if token.kind is Kind.TEXT:
            return Text(token.pos, token.value)
        if token.kind is not Kind.LEFT:
            raise self.unexpected(token, "input")
        self.scope.action_line = token.line
        node = self.action()
        self.scope.action_line = 0
        return node

    def action(self) -> Node | Token:
        token = self.next_word()
        match token.kind:
            case Kind.IF | Kind.WITH:
                return self.branches(token.kind)
            case Kind.RANGE:
                return self.range()
            case Kind.ELSE:
                return self.otherwise(token)
            case Kind.END:
                self.expect(Kind.RIGHT, "end")
                return token
            case Kind.BLOCK:
                return self.block()
            case Kind.TEMPLATE:
                return self.call()
            case Kind.BREAK | Kind.CONTINUE:
                return self.leave(token)
        self.at -= 1
        return Action(token.pos, self.pipeline("command", Kind.RIGHT))

    def otherwise(self, token: Token) -> Token:
        if self.peek_word().kind not in (Kind.IF, Kind.WITH):
            self.expect(Kind.RIGHT, "else")
        return token

    def leave(self, token: Token) -> Node:
        action = f"{{{{{token.value}}}}}"
        following = self.next_word()
        if following.kind is not Kind.RIGHT:
            raise self.unexpected(following, action)
        if not self.scope.ranges:
            raise self.error(f"{action} outside {{{{range}}}}")
        return Break(token.pos) if token.kind is Kind.BREAK else Continue(token.pos)

    def branches(self, kind: Kind) -> Branches:
        """An if or with, and its chain of `else if` or `else with`, without recursion: chains may be long."""
        word = kind.name.lower()
        known = self.scope.variables.mark()
        found: list[tuple[Pipe, Body]] = []
        otherwise = None
        while True:
            pipe = self.pipeline(word, Kind.RIGHT)
            body, closer = self.body()
            found.append((pipe, body))
            if closer.kind is Kind.END:
                break
            if self.peek().kind is kind:
                self.next()
                continue
            otherwise = self.last_body()
            break
        self.scope.variables.forget(known)
        return Branches(found[0][0].pos, kind is Kind.WITH, tuple(found), otherwise)

    def last_body(self) -> Body:
        body, closer = self.body()
        if closer.kind is not Kind.END:
            raise self.error(f"expected end; found {_CLOSERS[closer.kind]}")
        return body

    def range(self) -> Range:
        known = self.scope.variables.mark()
        pipe = self.pipeline("range", Kind.RIGHT)
        self.scope.ranges += 1
        body, closer = self.body()
        self.scope.ranges -= 1
        otherwise = self.last_body() if closer.kind is Kind.ELSE else None
        self.scope.variables.forget(known)
        return Range(pipe.pos, pipe, body, otherwise)

    def block(self) -> Call:
        context = "block clause"
        token, name = self.template_name(context)
        pipe = self.pipeline(context, Kind.RIGHT)
        self.definition(name, context)
        return Call(token.pos, name, pipe)

    def call(self) -> Call:
        context = "template clause"
        token, name = self.template_name(context)
        pipe = None
        if self.next_word().kind is not Kind.RIGHT:
            self.at -= 1
            pipe = self.pipeline(context, Kind.RIGHT)
        return Call(token.pos, name, pipe)

    def template_name(self, context: str) -> tuple[Token, str]:
        token = self.next_word()
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            raise self.unexpected(token, context)
        return token, self.literal(token)
