"""Text and paths as systemd writes them in unit names (systemd.unit(5), "String escaping for inclusion in unit names")."""


def escape(text: str) -> str:
    """`/` becomes `-`, and what a unit's name cannot hold is `\\x` and two hexadecimal digits."""
    return "".join(
        "-" if char == "/" else char if _is_plain(char, first=position == 0) else _hexadecimal(char)
        for position, char in enumerate(text)
    )


def escape_path(path: str) -> str:
    """As `escape`, without the slashes at both ends and those that repeat; `/` is `-`."""
    return escape("/".join(part for part in path.split("/") if part)) or "-"


def _is_plain(char: str, *, first: bool) -> bool:
    return char.isascii() and (char.isalnum() or char in ":_" or (char == "." and not first))


def _hexadecimal(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
