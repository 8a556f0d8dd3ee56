"""Which proxy a request takes."""

import pytest

from images.source.proxies import Proxies, UnusableProxy, without_login

ENVIRONMENT = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://tls:2", "ALL_PROXY": "http://all:3"}


@pytest.mark.parametrize(
    ("environment", "scheme", "expected"),
    [
        ({}, "https", None),
        (ENVIRONMENT, "http", "http://plain:1"),
        (ENVIRONMENT, "https", "http://tls:2"),
        ({"ALL_PROXY": "http://all:3"}, "https", "http://all:3"),
        (ENVIRONMENT | {"https_proxy": "http://lower:4"}, "https", "http://lower:4"),
        ({"HTTPS_PROXY": "bare.lab:3128"}, "https", "http://bare.lab:3128"),
        ({"HTTPS_PROXY": ""}, "https", None),
        ({"HTTPS_PROXY": "http://u:p@tls:2"}, "https", "http://u:p@tls:2"),
    ],
)
def test_by_scheme(environment: dict[str, str], scheme: str, expected: str | None) -> None:
    assert Proxies.from_environment(environment).choose(scheme, "quay.io", None) == expected


@pytest.mark.parametrize(
    ("rules", "host", "port", "direct"),
    [
        ("*", "quay.io", 443, True),
        ("quay.io", "quay.io", 443, True),
        ("quay.io", "cdn.quay.io", 443, True),
        (".quay.io", "cdn.quay.io", 443, True),
        ("*.quay.io", "cdn.quay.io", 443, True),
        ("quay.io", "notquay.io", 443, False),
        ("Quay.IO", "quay.io", 443, True),
        ("quay.io:5000", "quay.io", 5000, True),
        ("quay.io:5000", "quay.io", 443, False),
        (" a , quay.io ,", "quay.io", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:81", "10.1.2.3", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("fd00::/8", "fd00::5", 80, True),
        ("", "quay.io", 443, False),
        (",", "quay.io", 443, False),
    ],
)
def test_exceptions(rules: str, host: str, port: int, direct: bool) -> None:
    proxies = Proxies.from_environment({**ENVIRONMENT, "no_proxy": rules})
    assert (proxies.choose("https", host, port) is None) == direct


@pytest.mark.parametrize("url", ["socks5://me:s3cret@proxy:1080", "http://", "http://[", "http://me:s3cret@proxy:99999"])
def test_unusable(url: str) -> None:
    with pytest.raises(UnusableProxy) as caught:
        Proxies.from_environment({"ALL_PROXY": url}).choose("https", "quay.io", 443)
    assert "s3cret" not in caught.value.message
    assert caught.value.hint


def test_a_password_is_shown_to_nobody() -> None:
    proxies = Proxies.from_environment({"https_proxy": "http://me:s3cret@proxy:3128"})
    assert "s3cret" not in repr(proxies)
    assert without_login("http://me:s3cret@proxy:3128/") == "http://proxy:3128/"
