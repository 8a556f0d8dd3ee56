"""Text of a Go template to tokens: literal text, and inside `{{ }}` words, numbers, strings and marks."""

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from netboot.gotemplate.quoting import quote, unicode_name

LEFT, RIGHT = "{{", "}}"
_SPACES = " \t\r\n"


class Kind(Enum):
    ERROR = auto()
    EOF = auto()
    TEXT = auto()
    LEFT = auto()
    RIGHT = auto()
    SPACE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    PIPE = auto()
    LEFT_PAREN = auto()
    RIGHT_PAREN = auto()
    CHAR = auto()
    DOT = auto()
    FIELD = auto()
    VARIABLE = auto()
    IDENTIFIER = auto()
    BOOL = auto()
    NUMBER = auto()
    COMPLEX = auto()
    CHARACTER = auto()
    STRING = auto()
    RAW_STRING = auto()
    NIL = auto()
    BLOCK = auto()
    BREAK = auto()
    CONTINUE = auto()
    DEFINE = auto()
    ELSE = auto()
    END = auto()
    IF = auto()
    RANGE = auto()
    TEMPLATE = auto()
    WITH = auto()


_KEYWORDS = {
    kind.name.lower(): kind
    for kind in (
        Kind.NIL, Kind.BLOCK, Kind.BREAK, Kind.CONTINUE, Kind.DEFINE, Kind.ELSE, Kind.END, Kind.IF, Kind.RANGE, Kind.TEMPLATE,
        Kind.WITH,
    )
}  # fmt: skip
_WORDS = frozenset({*_KEYWORDS.values(), Kind.DOT})
_MARKS = {"=": Kind.ASSIGN, "|": Kind.PIPE, "(": Kind.LEFT_PAREN, ")": Kind.RIGHT_PAREN}

_SPACE = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"\w+")
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*(?:"|(?P<open>))', re.DOTALL)
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*(?:'|(?P<open>))", re.DOTALL)
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)


class Token(NamedTuple):
    """`pos` is the index of its first character in the text, `line` the 1-based line of it."""

    kind: Kind
    pos: int
    value: str
    line: int

    def __str__(self) -> str:
        """As messages show it."""
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.value
        if self.kind in _WORDS:
            return f"<{self.value}>"
        if len(self.value.encode("utf-8", "surrogateescape")) > 10:
            return f"{quote(self.value[:10])}..."
        return quote(self.value)


class LexError(Exception):
    """Ends the tokens; it becomes an ERROR token, whose text the parser reports."""


def lex(text: str, *, keywords_off: frozenset[str] = frozenset()) -> list[Token]:
    """All tokens of `text`; the last one is EOF or an ERROR.

    `keywords_off` holds those of `break` and `continue` that are names of functions here.
    """
    lexer = _Lexer(text, keywords_off)
    tokens = []
    try:
        for token in lexer.tokens():
            tokens.append(token)
    except LexError as exc:
        tokens.append(lexer.token(Kind.ERROR, str(exc)))
    return tokens


class _Lexer:
    def __init__(self, text: str, keywords_off: frozenset[str]) -> None:
        self.text = text
        self.keywords_off = keywords_off
        self.start = 0  # of the token in hand
        self.counted = 0  # newlines before this place are in `line`
        self.line = 1
        self.parens = 0

    def token(self, kind: Kind, value: str) -> Token:
        self.line += self.text.count("\n", self.counted, self.start)
        self.counted = self.start
        return Token(kind, self.start, value, self.line)

    def take(self, kind: Kind, end: int) -> Token:
        token = self.token(kind, self.text[self.start : end])
        self.start = end
        return token

    def tokens(self) -> Iterator[Token]:
        text, size = self.text, len(self.text)
        while True:
            left = text.find(LEFT, self.start)
            if left < 0:
                if self.start < size:
                    yield self.take(Kind.TEXT, size)
                yield self.take(Kind.EOF, size)
                return
            trims = text.startswith("-", left + 2) and text[left + 3 : left + 4] in tuple(_SPACES)
            literal = text[self.start : left].rstrip(_SPACES) if trims else text[self.start : left]
            if literal:
                yield self.token(Kind.TEXT, literal)
            self.start = left
            after = left + (4 if trims else 2)
            if text.startswith("/*", after):
                self.start = after
                self.comment()
                continue
            yield self.token(Kind.LEFT, LEFT)
            self.start = after
            self.parens = 0
            yield from self.action()

    def comment(self) -> None:
        end = self.text.find("*/", self.start + 2)
        if end < 0:
            raise LexError("unclosed comment")
        right = self.right_delim(end + 2)
        if right is None:
            raise LexError("comment ends before closing delimiter")
        self.close(*right)

    def right_delim(self, at: int) -> tuple[int, bool] | None:
        """(place of `}}`, whether it trims) when a right delimiter begins at `at`."""
        if self.text.startswith(RIGHT, at):
            return at, False
        if self.text.startswith("-}}", at + 1) and self.text[at] in _SPACES:
            return at + 2, True
        return None

    def close(self, delim: int, trims: bool) -> None:
        self.start = delim + 2
        if trims and (space := _SPACE.match(self.text, self.start)):
            self.start = space.end()

    def action(self) -> Iterator[Token]:
        """The tokens up to and with the right delimiter."""
        while True:
            right = self.right_delim(self.start)
            if right is not None and self.parens:
                raise LexError("unclosed left paren")
            if right is None and (space := _SPACE.match(self.text, self.start)):
                # The last space may belong to a trim marker; a lone one would have been seen above.
                marker = self.right_delim(space.end() - 1)
                if marker is None:
                    yield self.take(Kind.SPACE, space.end())
                else:
                    yield self.take(Kind.SPACE, space.end() - 1)
                continue
            if right is not None:
                delim, trims = right
                self.start = delim
                yield self.token(Kind.RIGHT, RIGHT)
                self.close(delim, trims)
                return
            yield self.inside()

    def inside(self) -> Token:
        """One token that is neither space nor delimiter."""
        text, start = self.text, self.start
        char = text[start : start + 1]
        if not char:
            raise LexError("unclosed action")
        if char == ":":
            if not text.startswith(":=", start):
                raise LexError("expected :=")
            return self.take(Kind.DECLARE, start + 2)
        if char in "\"'`":
            return self.quoted(char)
        if char in ".$":
            following = text[start + 1 : start + 2]
            if char == "$" or (following and following not in "0123456789"):
                return self.field_or_variable(char)
        if char in "+-.0123456789":
            return self.number()
        if _is_word(char):
            return self.word()
        if char == ")" and not self.parens:
            raise LexError("unexpected right paren")
        self.parens += (char == "(") - (char == ")")
        if char in _MARKS:
            return self.take(_MARKS[char], start + 1)
        if char.isascii() and char.isprintable():
            return self.take(Kind.CHAR, start + 1)
        raise LexError(f"unrecognized character in action: {unicode_name(char)}")

    def word_end(self, start: int) -> int:
        """Where the letters, digits and underscores from `start` end; they must be followed by what can end a word."""
        end = start
        if found := _WORD.match(self.text, start):
            end = found.end()
            if not found[0].isascii():  # \w knows more digits than Go
                end = start + next((i for i, char in enumerate(found[0]) if not _is_word(char)), len(found[0]))
        following = self.text[end : end + 1]
        if following and following not in " \t\r\n.,|:)(" and not self.text.startswith(RIGHT, end):
            raise LexError(f"bad character {unicode_name(following)}")
        return end

    def word(self) -> Token:
        end = self.word_end(self.start)
        word = self.text[self.start : end]
        if word in ("true", "false"):
            return self.take(Kind.BOOL, end)
        if word in self.keywords_off:
            return self.take(Kind.IDENTIFIER, end)
        return self.take(_KEYWORDS.get(word, Kind.IDENTIFIER), end)

    def field_or_variable(self, char: str) -> Token:
        end = self.word_end(self.start + 1)
        if char == "$":
            return self.take(Kind.VARIABLE, end)
        return self.take(Kind.FIELD if end > self.start + 1 else Kind.DOT, end)

    def quoted(self, mark: str) -> Token:
        if mark == "`":
            end = self.text.find("`", self.start + 1)
            if end < 0:
                raise LexError("unterminated raw quoted string")
            return self.take(Kind.RAW_STRING, end + 1)
        found = (_STRING if mark == '"' else _CHARACTER).match(self.text, self.start)
        if found is None or found["open"] is not None:
            raise LexError("unterminated quoted string" if mark == '"' else "unterminated character constant")
        return self.take(Kind.STRING if mark == '"' else Kind.CHARACTER, found.end())

    def number(self) -> Token:
        end = self.number_end(self.start)
        if self.text[end : end + 1] not in ("+", "-"):
            return self.take(Kind.NUMBER, end)
        end = self.number_end(end)
        if self.text[end - 1] != "i":
            self.bad_number(end)
        return self.take(Kind.COMPLEX, end)

    def number_end(self, start: int) -> int:
        found = _NUMBER.match(self.text, start)
        end = found.end() if found else start
        if _is_word(self.text[end : end + 1]):
            self.bad_number(end + 1)
        return end

    def bad_number(self, end: int) -> None:
        raise LexError(f"bad number syntax: {quote(self.text[self.start : end])}")


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()
