"""`html`, `js` and `urlquery`: text made safe for another language (package text/template)."""

import re
from urllib.parse import quote_plus

from netboot.gotemplate.quoting import REPLACEMENT, is_raw_byte, to_bytes

_HTML = str.maketrans({'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": REPLACEMENT})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"'}
_JS_SPECIAL = re.compile(r"[\\'\"<>&=]|[^ -\x7f]")


def html(text: str) -> str:
    return text.translate(_HTML)


def js(text: str) -> str:
    return _JS_SPECIAL.sub(_js_char, text)


def _js_char(found: re.Match[str]) -> str:
    char = found[0]
    if char in _JS:
        return _JS[char]
    if is_raw_byte(char):  # Go prints U+FFFD, which is printable, as the byte that it is
        return char
    return char if char > "\x7f" and char.isprintable() else f"\\u{ord(char):04X}"


def urlquery(text: str) -> str:
    return quote_plus(to_bytes(text), safe="-_.~")
