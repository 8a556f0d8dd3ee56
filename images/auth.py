"""Credentials for a registry as container tools find them: given outright, in their files, from credential helpers."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from images.authfile import (
    MalformedAuthFile,
    MalformedHelperAnswer,
    helper_server,
    parse_auth_file,
    parse_helper_answer,
)
from images.challenge import Credentials
from images.errors import Error
from images.reference import Reference

_HELPER_SECONDS = 60
"""A helper may ask a cloud, or a person for the key of a store."""
_NOT_FOUND = "credentials not found"
"""Begins what a helper prints that knows nothing of the registry; it fails then, too."""


class IncompleteCredentials(Error):
    def __init__(self) -> None:
        super().__init__("a user name without a password, or the reverse", hint="give both --username and --password")


class CredentialHelperFailed(Error):
    def __init__(self, program: str, path: Path, reason: str) -> None:
        super().__init__(
            f"the credential helper {program} that {path} names fails: {reason}",
            hint="install or repair it, give --username and --password, or take it out of that file",
        )
        self.program = program


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFiles:
    """Files that may hold credentials, the first that has some decides; `required`: the user named it, so it must exist.

    Credential helpers are looked for in PATH of `environment`, and run with it.
    """

    paths: tuple[Path, ...] = ()
    required: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def find_auth_files(environment: Mapping[str, str], *, uid: int, home: Path) -> AuthFiles:
    """Where container tools look (containers-auth.json(5)), in their order."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return AuthFiles(paths=(Path(named),), required=True, environment=environment)
    runtime = environment.get("XDG_RUNTIME_DIR")
    config = environment.get("XDG_CONFIG_HOME")
    docker = environment.get("DOCKER_CONFIG")
    paths = (
        *((Path(runtime) / "containers/auth.json",) if runtime else ()),
        Path(f"/run/containers/{uid}/auth.json"),
        (Path(config) if config else home / ".config") / "containers/auth.json",
        (Path(docker) if docker else home / ".docker") / "config.json",
    )
    return AuthFiles(paths=paths, environment=environment)


def find_credentials(reference: Reference, files: AuthFiles) -> Credentials | None:
    """Blocks, for a helper is another program. Raises MalformedAuthFile and CredentialHelperFailed."""
    for path in files.paths:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if files.required:
                raise MalformedAuthFile(path, "it does not exist") from None
            continue
        except OSError as exc:
            if files.required or not isinstance(exc, NotADirectoryError | PermissionError):
                raise MalformedAuthFile(path, exc.strerror or str(exc)) from exc
            continue
        # `docker logout` and REGISTRY_AUTH_FILE=/dev/null leave nothing at all.
        parsed = parse_auth_file(data or b"{}", path)
        if (helper := parsed.helper(reference.host)) is not None:
            found = _ask_helper(helper, reference.host, path, files.environment)
            if found is not None:
                return found
        try:
            found = parsed.find(reference.host, reference.repository)
        except ValueError as exc:
            raise MalformedAuthFile(path, str(exc)) from exc
        if found is not None:
            return found
    return None


def _ask_helper(name: str, host: str, path: Path, environment: Mapping[str, str]) -> Credentials | None:
    """`docker-credential-NAME get`: the server on its standard input, JSON on its output."""
    program = f"docker-credential-{name}"
    found = shutil.which(program, path=environment.get("PATH", os.defpath)) if name and "/" not in name else None
    if found is None:
        raise CredentialHelperFailed(program, path, "it is not installed")
    try:
        done = subprocess.run(
            [found, "get"],
            input=helper_server(host).encode(),
            capture_output=True,
            env=dict(environment),
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CredentialHelperFailed(program, path, f"it says nothing for {_HELPER_SECONDS} s") from exc
    except OSError as exc:
        raise CredentialHelperFailed(program, path, exc.strerror or str(exc)) from exc
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    if done.returncode != 0:
        if said.startswith(_NOT_FOUND):
            return None
        raise CredentialHelperFailed(program, path, said.splitlines()[0][:200] if said else f"exit status {done.returncode}")
    try:
        return parse_helper_answer(done.stdout)
    except MalformedHelperAnswer as exc:
        raise CredentialHelperFailed(program, path, str(exc)) from exc
