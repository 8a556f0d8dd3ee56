"""Credentials in the files of container tools and from credential helpers."""

import base64
import json
import os
from pathlib import Path

import pytest

from images.auth import AuthFiles, CredentialHelperFailed, find_auth_files, find_credentials
from images.authfile import MalformedAuthFile, parse_auth_file
from images.challenge import Credentials
from images.reference import Reference


def encoded(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def user(document: object, reference: str) -> str | None:
    """Whom auth.json names for a reference."""
    parsed = Reference.parse(reference)
    found = parse_auth_file(json.dumps(document).encode(), Path("auth.json")).find(parsed.host, parsed.repository)
    return None if found is None else found.username


def test_the_most_specific_key_decides() -> None:
    keys = ["quay.io", "quay.io/lab", "quay.io/lab/hpc/rocky", "docker.io/library", "127.0.0.1:5000"]
    document = {"auths": {key: encoded(key.replace(":", "+"), "p") for key in keys}}
    assert user(document, "quay.io/other/x") == "quay.io"
    assert user(document, "quay.io/lab/x:1") == "quay.io/lab"
    assert user(document, "quay.io/labour/x") == "quay.io"
    assert user(document, "quay.io/lab/hpc/rocky:9") == "quay.io/lab/hpc/rocky"
    assert user(document, "quay.io/lab/hpc/rocky9") == "quay.io/lab"
    assert user(document, "debian") == "docker.io/library"
    assert user(document, "warewulf/rocky") is None
    assert user(document, "127.0.0.1:5000/x") == "127.0.0.1+5000"
    assert user(document, "127.0.0.1:5001/x") is None


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("https://index.docker.io/v1/", "debian"),
        ("index.docker.io", "warewulf/rocky"),
        ("registry-1.docker.io", "debian"),
        ("https://quay.io", "quay.io/x/y"),
        ("https://quay.io/v2/", "quay.io/x/y"),
        ("http://127.0.0.1:5000/v1/", "127.0.0.1:5000/x"),
    ],
)
def test_keys_of_old(key: str, reference: str) -> None:
    assert user({"auths": {key: encoded("me", "p")}}, reference) == "me"


def test_what_stands_in_an_entry() -> None:
    def find(login: object) -> Credentials | None:
        return parse_auth_file(json.dumps({"auths": {"h.x": login}}).encode(), Path("f")).find("h.x", "r")

    assert find(encoded("me", "p:w")) == Credentials(username="me", password="p:w")
    assert find({"username": "me", "password": "pw"}) == Credentials(username="me", password="pw")
    assert find({**encoded("me", ""), "identitytoken": "t"}) == Credentials(username="me", password="", identity_token="t")
    assert find({}) is None
    assert find({"email": "x@y"}) is None
    with pytest.raises(ValueError, match="base64"):
        find({"auth": "%%%"})


@pytest.fixture
def files(tmp_path: Path) -> AuthFiles:
    return AuthFiles(paths=(tmp_path / "first.json", tmp_path / "second.json"), environment={"PATH": str(tmp_path / "bin")})


def write(path: Path, **document: object) -> None:
    path.write_text(json.dumps(document))


def helper(files: AuthFiles, name: str, script: str) -> None:
    program = Path(files.environment["PATH"]) / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\nread -r server\n{script}\n')
    program.chmod(0o755)


QUAY, HUB = Reference.parse("quay.io/lab/x"), Reference.parse("debian")


def test_the_first_file_that_knows(files: AuthFiles) -> None:
    assert find_credentials(QUAY, files) is None
    write(files.paths[1], auths={"quay.io/lab": encoded("second", "p")})
    assert find_credentials(QUAY, files) == Credentials(username="second", password="p")
    write(files.paths[0], auths={"quay.io": encoded("first", "p")})
    assert find_credentials(QUAY, files) == Credentials(username="first", password="p")
    files.paths[0].write_bytes(b"")
    assert find_credentials(QUAY, files) == Credentials(username="second", password="p")


def test_helpers(files: AuthFiles) -> None:
    echo = """echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"NAME $server\\",\\"Secret\\":\\"s\\"}" """
    helper(files, "one", echo.replace("NAME", "one"))
    helper(files, "all", echo.replace("NAME", "all"))
    helper(files, "token", """echo '{"Username": "<token>", "Secret": "identity"}'""")
    write(files.paths[0], auths={"quay.io": {}}, credsStore="all", credHelpers={"quay.io": "one", "ghcr.io": "token"})
    assert find_credentials(QUAY, files) == Credentials(username="one quay.io", password="s")
    assert find_credentials(HUB, files) == Credentials(username="all https://index.docker.io/v1/", password="s")
    token = find_credentials(Reference.parse("ghcr.io/x/y"), files)
    assert token == Credentials(username="", password="", identity_token="identity")


def test_helper_that_knows_nothing(files: AuthFiles) -> None:
    helper(files, "all", 'echo "credentials not found in native keychain"; exit 1')
    write(files.paths[0], credsStore="all", auths={"quay.io": encoded("me", "p")})
    assert find_credentials(QUAY, files) == Credentials(username="me", password="p")
    assert find_credentials(HUB, files) is None


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [
        ("missing", None, "not installed"),
        ("../bin/x", None, "not installed"),
        ("bad", "echo 'the store is locked' >&2; exit 1", "the store is locked"),
        ("bad", "exit 3", "exit status 3"),
        ("bad", "echo 'my secret is s3cret'", "no JSON"),
    ],
)
def test_helpers_that_fail(files: AuthFiles, name: str, script: str | None, said: str) -> None:
    if script is not None:
        helper(files, name, script)
    write(files.paths[0], credHelpers={"quay.io": name})
    with pytest.raises(CredentialHelperFailed, match=said) as caught:
        find_credentials(QUAY, files)
    assert str(files.paths[0]) in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"quay.io": {"auth": "czNjcmV0"}}, "credsStore": 1}', "\xff"])
def test_broken_files(files: AuthFiles, text: str) -> None:
    files.paths[0].write_text(text, encoding="latin-1")
    with pytest.raises(MalformedAuthFile, match=r"first\.json") as caught:
        find_credentials(QUAY, files)
    assert "czNjcmV0" not in caught.value.message


def test_a_file_that_the_user_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(MalformedAuthFile, match="does not exist"):
        find_credentials(QUAY, AuthFiles(paths=(tmp_path / "auth.json",), required=True))
    assert find_credentials(QUAY, AuthFiles(paths=(Path(os.devnull),), required=True)) is None


def test_where_files_are_looked_for() -> None:
    home = Path("/home/me")
    usual = find_auth_files({}, uid=0, home=Path("/root"))
    assert [str(path) for path in usual.paths] == [
        "/run/containers/0/auth.json",
        "/root/.config/containers/auth.json",
        "/root/.docker/config.json",
    ]
    environment = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_CONFIG_HOME": "/cfg", "DOCKER_CONFIG": "/docker"}
    assert [str(path) for path in find_auth_files(environment, uid=7, home=home).paths] == [
        "/run/user/7/containers/auth.json",
        "/run/containers/7/auth.json",
        "/cfg/containers/auth.json",
        "/docker/config.json",
    ]
    named = find_auth_files({**environment, "REGISTRY_AUTH_FILE": "/my.json"}, uid=7, home=home)
    assert (named.paths, named.required) == ((Path("/my.json"),), True)
