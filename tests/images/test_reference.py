"""References and digests, with container tools' defaults."""

import pytest

from images.reference import InvalidDigest, InvalidReference, Reference, hide_login, parse_digest

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected", "api_host", "name"),
    [
        ("debian", "docker.io/library/debian:latest", "registry-1.docker.io", "debian"),
        ("debian:12", "docker.io/library/debian:12", "registry-1.docker.io", "debian:12"),
        ("debian:latest", "docker.io/library/debian:latest", "registry-1.docker.io", "debian:latest"),
        ("warewulf/rocky", "docker.io/warewulf/rocky:latest", "registry-1.docker.io", "rocky"),
        ("index.docker.io/debian", "docker.io/library/debian:latest", "registry-1.docker.io", "debian"),
        ("docker.io/warewulf/rocky:8", "docker.io/warewulf/rocky:8", "registry-1.docker.io", "rocky:8"),
        ("localhost/a/b/c:1.0_x", "localhost/a/b/c:1.0_x", "localhost", "c:1.0_x"),
        ("127.0.0.1:5000/lab/debian:12", "127.0.0.1:5000/lab/debian:12", "127.0.0.1:5000", "debian:12"),
        ("[::1]:5000/debian", "[::1]:5000/debian:latest", "[::1]:5000", "debian"),
        ("ghcr.io/x/y__z-q.r", "ghcr.io/x/y__z-q.r:latest", "ghcr.io", "y__z-q.r"),
        (f"quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}", "quay.io", "b"),
        (f"quay.io/a/b:3@{DIGEST}", f"quay.io/a/b:3@{DIGEST}", "quay.io", "b:3"),
        ("Registry/x", "Registry/x:latest", "Registry", "x"),
    ],
)
def test_defaults(text: str, expected: str, api_host: str, name: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == expected
    assert reference.api_host == api_host
    assert reference.default_name == name


def test_digest_wins_over_tag() -> None:
    assert Reference.parse(f"quay.io/a/b:3@{DIGEST}").target == DIGEST
    assert Reference.parse("quay.io/a/b:3").target == "3"
    assert Reference.parse("quay.io/a/b").target == "latest"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a//b",
        "a/",
        "Debian",
        "debian:",
        "debian:-x",
        "debian: 12",
        "debian\n",
        "debian:" + "t" * 129,
        "x" * 256,
        "quay.io/../etc/passwd",
        "quay.io/a b",
        "quay.io:0/a",
        "quay.io:65536/a",
        "quay.io:/a",
        "[::g]/a",
        "-x.io/a",
        "user:pass@quay.io/a",
        "a@sha256:12",
        "a@sha256:" + "AB" * 32,
        "a@" + DIGEST + "@" + DIGEST,
        "ä.io/x",
        "debian:\u0661",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "docker://" in (caught.value.hint or "")


def test_capital_letters_are_told() -> None:
    with pytest.raises(InvalidReference, match=r"'lab/Rocky' is not a repository name, for it has capital letters"):
        Reference.parse("quay.io/lab/Rocky:9")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("128.0.0.1", False),
        ("localhost.example.org", False),
        ("docker.io", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Reference.parse(f"{host}/x").is_loopback is loopback


@pytest.mark.parametrize("text", ["sha256:" + "a" * 63, "sha256:../../x", "md5:" + "a" * 32, "a" * 64, "sha256:" + "G" * 64])
def test_digest_is_a_safe_file_name(text: str) -> None:
    with pytest.raises(InvalidDigest):
        parse_digest(text)
    assert parse_digest(DIGEST) == DIGEST
    assert parse_digest("sha512:" + "0" * 128)


@pytest.mark.parametrize(
    "text",
    [
        "user:s3cret@quay.io/a",
        "s3cret@quay.io/a",
        "user:s3cret@q@quay.io/a",
        "user:s3c/ret://x@quay.io/a",
        "https://user:s3cret@quay.io/a",
        "user:s3cret@quay.io/a@" + DIGEST,
        "user:s3cret@" + "quay.io:99999/a",
    ],
)
def test_a_password_is_never_printed(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    shown = f"{caught.value.message} {caught.value.hint} {caught.value.text} {hide_login('docker://' + text)}"
    assert "s3c" not in shown


@pytest.mark.parametrize("text", ["docker://quay.io/a:1", f"quay.io/a:1@{DIGEST}", "/srv/x:y", "docker://x"])
def test_what_has_no_login_is_shown_whole(text: str) -> None:
    assert hide_login(text) == text
