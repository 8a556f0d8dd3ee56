"""Sprig v3's text functions: all that give the same for the same input, and touch nothing outside.

Those that are left out can be named in a template, so that it reads, and say why when they are called.
"""

from collections.abc import Mapping
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from netboot.gotemplate import (
    sprig_case,
    sprig_dicts,
    sprig_encoding,
    sprig_equality,
    sprig_lists,
    sprig_numbers,
    sprig_paths,
    sprig_regex,
    sprig_semver,
    sprig_string_lists,
    sprig_strings,
)
from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.sprig_dates import date_functions
from netboot.gotemplate.values import Function, Functions, Value

_ENVIRONMENT = "the environment of whoever builds the overlay is no part of the site's files"
_RANDOM = "it would give another result at every build, and the overlay would never be up to date"
_KEYS = "a new key at every build would lock out nodes; keep keys in files and Include them"
_CRYPTO = "secrets belong in files that only root can read, which Include brings in"

LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(("env", "expandenv"), _ENVIRONMENT),
    "getHostByName": "the answer of a name server is no part of the site's files; nodes.conf has the nodes' addresses",
    **dict.fromkeys(("randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes", "randInt"), _RANDOM),
    **dict.fromkeys(("shuffle", "uuidv4", "bcrypt", "htpasswd", "encryptAES"), _RANDOM),
    **dict.fromkeys(("genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey"), _KEYS),
    **dict.fromkeys(("genSignedCert", "genSignedCertWithKey"), _KEYS),
    **dict.fromkeys(("derivePassword", "decryptAES", "buildCustomCert"), _CRYPTO),
}
"""Sprig's functions that there are not, and why."""

FUNCTIONS: Functions = {
    name: function
    for module in (
        sprig_case,
        sprig_dicts,
        sprig_encoding,
        sprig_equality,
        sprig_lists,
        sprig_numbers,
        sprig_paths,
        sprig_regex,
        sprig_semver,
        sprig_string_lists,
        sprig_strings,
    )
    for name, function in module.FUNCTIONS.items()
}
"""Those that need to know nothing of the execution."""


def _refusal(name: str, reason: str) -> Function:
    def refuse(*_: Value) -> Value:
        raise FunctionError(f"{name} is left out: {reason}")

    return refuse


_REFUSALS: Functions = {name: _refusal(name, reason) for name, reason in LEFT_OUT.items()}


def sprig_functions(now: datetime, local: timezone | ZoneInfo) -> Functions:
    """All functions of one execution; `now` has a zone, `local` is the head node's."""
    return {**_REFUSALS, **FUNCTIONS, **date_functions(now, local)}
