"""Sprig's functions that change the shape of words: title, camelcase, snakecase and their like.

Letters are mapped one to one, as Go does: `ß` has no capital here.
"""

import re
from collections.abc import Callable, Iterator

from netboot.gotemplate.values import Functions, Value, function

_CONNECTORS = re.compile(r"([\s_-]+)")
_WORD_START = re.compile(r"(^|\s)(\S)")


def _mapped(text: str, change: Callable[[str], str]) -> str:
    if text.isascii():
        return change(text)
    return "".join(new if len(new := change(char)) == 1 else _single(char, new) for char in text)


def _single(char: str, new: str) -> str:
    """What Unicode maps to several letters stays as it is, but for the dotted capital I."""
    return "i" if char == "\u0130" and new.startswith("i") else char


def upper(text: str) -> str:
    return _mapped(text, str.upper)


def lower(text: str) -> str:
    return _mapped(text, str.lower)


def _title_char(char: str) -> str:
    new = char.title()
    return new if len(new) == 1 else char


@function(params=("string",))
def _upper(text: str) -> Value:
    return upper(text)


@function(params=("string",))
def _lower(text: str) -> Value:
    return lower(text)


def _separates(char: str) -> bool:
    """Whether a word ends here (Go's strings.Title): neither letter, digit nor `_`; beyond ASCII only blanks."""
    if char.isascii():
        return not (char.isalnum() or char == "_")
    return not char.isalnum() and char.isspace()


@function(params=("string",))
def _title(text: str) -> Value:
    previous, result = " ", []
    for char in text:
        result.append(_title_char(char) if _separates(previous) else char)
        previous = char
    return "".join(result)


@function(params=("string",))
def _untitle(text: str) -> Value:
    return _WORD_START.sub(lambda match: match[1] + lower(match[2]), text)


@function(params=("string",))
def _swapcase(text: str) -> Value:
    previous, result = " ", []
    for char in text:
        if char.isupper() or char.istitle():
            result.append(lower(char))
        elif char.islower():
            result.append(_title_char(char) if previous.isspace() else upper(char))
        else:
            result.append(char)
        previous = char
    return "".join(result)


@function(params=("string",))
def _camelcase(text: str) -> Value:
    """`http_server` is HttpServer: of the connectors between two words one is dropped, those at the ends stay."""
    parts = _CONNECTORS.split(text)
    words, connectors = parts[::2], parts[1::2]
    if not any(words):
        return text + text[-1:]
    result = [_pascal(words[0])]
    for position, (connector, word) in enumerate(zip(connectors, words[1:], strict=True)):
        inner = word and (position or words[0])
        result.append((connector[:-1] if inner else connector) + _pascal(word))
    return "".join(result)


def _pascal(word: str) -> str:
    """The first letter capital; capitals right after a capital one small."""
    if not word or not word[0].isupper():
        return upper(word[:1]) + word[1:]
    end = 1
    while end < len(word) and word[end].isupper():
        end += 1
    return word[0] + lower(word[1:end]) + word[end:]


def _words(text: str) -> Iterator[str]:
    """Connectors one by one, other punctuation, and the words between, split where capitals and digits say so."""
    at = 0
    while at < len(text):
        start, char = at, text[at]
        at += 1
        if char.isdigit():
            while at < len(text) and (text[at].isdigit() or text[at].islower()):
                at += 1
        elif char.isalpha():
            at = _end_of_word(text, start)
        elif not _CONNECTORS.fullmatch(char):
            # `-` and `_` behind other punctuation are part of it.
            while at < len(text) and not (text[at].isalnum() or text[at].isspace()):
                at += 1
        yield text[start:at]


def _end_of_word(text: str, start: int) -> int:
    at = start
    while at < len(text) and text[at].isupper():
        at += 1
    capitals = at - start
    if at < len(text) and _small(text[at]):
        if capitals > 1:
            return at - 1
        while at < len(text) and _small(text[at]):
            at += 1
    # Digits belong to the word before them, unless small letters follow: these begin a word with the digits.
    digits = at
    while digits < len(text) and text[digits].isdigit():
        digits += 1
    return at if digits < len(text) and _small(text[digits]) else digits


def _small(char: str) -> bool:
    return char.isalpha() and not char.isupper()


def _joined(text: str, connector: str) -> str:
    result, previous = [], ""
    for word in _words(text):
        if _CONNECTORS.fullmatch(word):
            result.append(connector)
            previous = ""
            continue
        if previous and previous[-1].isalnum() and word[0].isalnum():
            result.append(connector)
        result.append(lower(word))
        previous = word
    return "".join(result)


@function(params=("string",))
def _snakecase(text: str) -> Value:
    return _joined(text, "_")


@function(params=("string",))
def _kebabcase(text: str) -> Value:
    return _joined(text, "-")


FUNCTIONS: Functions = {
    "upper": _upper,
    "lower": _lower,
    "title": _title,
    "untitle": _untitle,
    "swapcase": _swapcase,
    "camelcase": _camelcase,
    "snakecase": _snakecase,
    "kebabcase": _kebabcase,
}
