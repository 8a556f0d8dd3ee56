"""What warewulf.conf says wrongly of the head node itself; what it says rightly is `netboot.head_conf`'s."""

from ipaddress import IPv6Interface

from bootsvc.keytable import Settings
from netboot.head_conf import KEY_TYPES


def check_head(settings: Settings) -> None:
    """Warn of what is not made, and raise YamlError for what could not be used."""
    for kind in settings.get("ssh", "key types", default=()):
        # Warewulf once made dsa keys, and its files still say so: not a word at every command of every such site.
        if kind not in (*KEY_TYPES, "dsa"):
            settings.warnings.append(f"{settings.source}: ssh: no keys of type {kind!r} are made ({', '.join(KEY_TYPES)} are)")
    _check_ipaddr6(settings)
    for record in settings.get("nfs", "export paths", default=()):
        if record.get("path") is None:
            raise settings.error(("nfs", "export paths"), "one of them has no path", "such as `- path: /home`")


def _check_ipaddr6(settings: Settings) -> None:
    """`ipaddr6`, with `prefixlen6` where it has no prefix of its own."""
    given, length = settings.get("ipaddr6"), settings.get("prefixlen6")
    if not given:
        return
    try:
        IPv6Interface(given if "/" in given or length is None else f"{given}/{length}")
    except ValueError as exc:
        raise settings.error(("ipaddr6",), f"{given!r} is no IPv6 address: {exc}", "such as fd00::1/64") from exc
