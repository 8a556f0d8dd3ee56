"""Challenges, credentials and tokens, as values."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.challenge import (
    Challenge,
    Credentials,
    MalformedToken,
    choose_challenge,
    parse_challenges,
    parse_token,
    pull_scope,
    refresh_form,
    token_url,
)

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'


def test_bearer_challenge() -> None:
    (challenge,) = parse_challenges([HUB])
    assert challenge.scheme == "bearer"
    assert challenge.parameters == {
        "realm": "https://auth.docker.io/token",
        "service": "registry.docker.io",
        "scope": "repository:a/b:pull,push",
    }


@pytest.mark.parametrize(
    ("headers", "schemes"),
    [
        (['Basic realm="x, y", Bearer realm=https://t/,service=s'], ["basic", "bearer"]),
        (['Basic realm="x"', HUB], ["basic", "bearer"]),
        (['BASIC Realm = "a\\"b"'], ["basic"]),
        (["Negotiate"], ["negotiate"]),
        (["Negotiate, Basic realm=x"], ["negotiate", "basic"]),
        ([""], []),
        ([], []),
    ],
)
def test_challenges(headers: list[str], schemes: list[str]) -> None:
    assert [challenge.scheme for challenge in parse_challenges(headers)] == schemes


def test_quoted_pair() -> None:
    assert parse_challenges(['Basic realm="a\\"b\\\\c"'])[0].parameters["realm"] == 'a"b\\c'


def test_bearer_before_basic() -> None:
    chosen = choose_challenge(parse_challenges(['Basic realm="x"', HUB]))
    assert chosen is not None
    assert chosen.scheme == "bearer"
    assert choose_challenge(parse_challenges(["Bearer service=x", "Negotiate"])) is None


def test_token_url() -> None:
    challenge = Challenge(scheme="bearer", parameters={"realm": "https://t.example/token?a=b#c", "service": "s & t"})
    url = token_url(challenge, scope=pull_scope("x/y"), account="me")
    assert url == "https://t.example/token?a=b&service=s+%26+t&scope=repository%3Ax%2Fy%3Apull&account=me"


def test_credentials() -> None:
    credentials = Credentials(username="jürgen", password="s:ecret")
    assert base64.b64decode(credentials.header().removeprefix("Basic ")).decode() == "jürgen:s:ecret"
    assert "s:ecret" not in repr(credentials)


def test_token() -> None:
    assert parse_token(b'{"token": "abc", "expires_in": 300, "issued_at": "x"}', realm="r") == "Bearer abc"
    assert parse_token(b'{"access_token": "abc"}', realm="r") == "Bearer abc"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"token": "a\\r\\nX: y"}', b'{"token": 1}', b"\xff", '{"token": "ä"}'.encode()]
)
def test_bad_token(data: bytes) -> None:
    with pytest.raises(MalformedToken):
        parse_token(data, realm="https://t")


@given(st.text(alphabet='Basicern =",\\\t realm:/', max_size=60))
def test_any_header_is_read(header: str) -> None:
    for challenge in parse_challenges([header, header]):
        assert challenge.scheme == challenge.scheme.lower()


def test_refresh_form() -> None:
    challenge = Challenge(scheme="bearer", parameters={"realm": "https://t/", "service": "s"})
    form = refresh_form(challenge, scope=pull_scope("x/y"), identity_token="secret")
    assert form == {
        "grant_type": "refresh_token",
        "client_id": "bootsvc",
        "scope": "repository:x/y:pull",
        "refresh_token": "secret",
        "service": "s",
    }
