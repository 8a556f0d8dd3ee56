"""overlay.toml as text: `wwctl overlay chmod` and its like change it for an overlay that has one."""

import json

from netboot.overlay import Attributes, Description


def emit(description: Description) -> str:
    """The description as TOML; reading it gives the same again."""
    lines = [f"description = {_text(description.description)}"]
    if description.remove:
        lines.append(f"remove = [{', '.join(map(_text, description.remove))}]")
    for table in ("files", "directories"):
        entries: dict[str, Attributes] = getattr(description, table)
        for path, attributes in entries.items():
            lines += ["", f"[{table}.{_text(path)}]"]
            if attributes.mode:
                lines.append(f"mode = {_text(attributes.mode)}")
            lines += [f"{name} = {value}" for name in ("uid", "gid") if (value := getattr(attributes, name))]
    if description.links:
        lines += ["", "[links]", *(f"{_text(path)} = {_text(target)}" for path, target in description.links.items())]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A basic string; JSON's escapes are TOML's, and DEL is the one character that only TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
