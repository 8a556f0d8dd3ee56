"""The environment of a command in a sandbox: what of the caller's is passed on, and what an image needs."""

import shlex
from collections.abc import Mapping

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
PASSED_VARIABLES = frozenset(
    {"TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ", "EDITOR", "VISUAL", "PAGER"}
    | {"DEBIAN_FRONTEND", "SOURCE_DATE_EPOCH", *PROXIES, *(name.upper() for name in PROXIES)}
)
PASSED_PREFIXES = ("LC_", "WW_")


def environment(name: str, prompt: str, caller: Mapping[str, str]) -> dict[str, str]:
    """`prompt` is PS1; the rest of the caller's variables would name places and secrets of the host."""
    passed = {key: value for key, value in caller.items() if key in PASSED_VARIABLES or key.startswith(PASSED_PREFIXES)}
    return passed | {
        "PATH": PATH,
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SYSTEMD_OFFLINE": "1",
        "WW_CONTAINER_SHELL": name,
        "WW_IMAGE_SHELL": name,
        "HISTFILE": caller.get("WW_HISTFILE", "/dev/null"),
        "PS1": prompt,
        # bash runs this before each prompt, so after the image's bashrc has set its own.
        "PROMPT_COMMAND": f"PS1={shlex.quote(prompt)}",
    }
