"""Which events say where a boot stands."""

import pytest

from bootsvc.boots import BootEvent, sent_and_why, tells_of_boot


def event(stage: str, sent: str = "x") -> BootEvent:
    return BootEvent(hwaddr="52:54:00:00:00:01", node="n1", stage=stage, sent=sent, when=1.0)


@pytest.mark.parametrize(
    ("stage", "sent", "last", "tells"),
    [
        ("runtime overlay", "__RUNTIME__.img", "up", False),
        ("runtime overlay", "__RUNTIME__.img", "system overlay", True),
        ("system overlay", "__SYSTEM__.img", "up", True),
        ("DHCP ACK", "", "up", False),
        ("DHCP OFFER", "snponly.efi", "up", True),
        ("DHCP ACK", "", "ipxe", True),
        ("up", "", "runtime overlay", True),
        ("up", "", None, True),
    ],
)
def test_tells_of_boot(stage: str, sent: str, last: str | None, tells: bool) -> None:
    before = None if last is None else event(last)
    assert tells_of_boot(event(stage, sent), before) is tells


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ("NOT_FOUND", "image 'x: y' has no kernel"),
        ("BAD_ASSET", "the asset key is not this node's"),
        ("default.ipxe", ""),
        ("10.0.0.9 is outside: 10.1.0.0/24 is served here", ""),
        ("", ""),
    ],
)
def test_a_detail_that_was_kept_says_why(sent: str, why: str) -> None:
    kept = BootEvent(hwaddr="52:54:00:00:00:01", node="n1", stage="ipxe", sent=sent, why=why, when=1.0).detail
    assert sent_and_why(kept) == (sent, why)
