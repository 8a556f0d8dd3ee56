"""What a file or folder is, by its content; its name says nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from images.decompress import DECOMPRESSION_ERRORS, decompress
from images.pax import MalformedTar
from images.source.archive import entries_of, first_entry, is_plain_tar
from images.source.archived import docker_archive, oci_archive
from images.source.contract import Source, SourceOptions
from images.source.directory import DirectorySource
from images.source.layout import DOCKER_FILE, INDEX_FILE, LAYOUT_FILE
from images.source.oci import LayoutSource, is_layout
from images.source.sif import HEAD, SquashfsSource, is_sif, is_squashfs
from images.source.tarball import TarballSource
from images.source.unpacking import MalformedArchive, open_archive
from images.tar import Entry, Reader

_MAGIC_BYTES = 1 << 16
_COMPRESSED = frozenset({"application/gzip", "application/x-xz", "application/zstd", "application/x-bzip2"})
_OF_AN_IMAGE = re.compile(
    rf"(?:{re.escape(LAYOUT_FILE)}|{re.escape(INDEX_FILE)}|{re.escape(DOCKER_FILE)}|repositories"
    r"|blobs(?:/.*)?|(?:sha256:)?[0-9a-f]{64}(?:\.tar(?:\.gz)?|\.json)?(?:/.*)?)"
)
"""Every name in an image's archive is like this, and hardly any at the top of a root file system."""
_HINT = "an image can be made of a tar, a SIF or squashfs file, an OCI or Docker archive, or a folder"


def recognise(path: Path, options: SourceOptions) -> Source:
    """The source that a path is. Reads its first bytes, or, of an image's archive, its names. Raises Error."""
    if path.is_dir():
        return LayoutSource(path, None, options) if is_layout(path) else DirectorySource(path)
    if not path.is_file():
        kind = "a link to nothing" if path.is_symlink() and not path.exists() else "neither a file nor a folder"
        raise MalformedArchive(path, f"it is {kind}", hint=_HINT)
    with open_archive(path) as file:
        head = file.read(_MAGIC_BYTES)
    if is_sif(head[:HEAD]) or is_squashfs(head):
        return SquashfsSource(path)
    if not head:
        raise MalformedArchive(path, "it is empty", hint=_HINT)
    # Loading it runs ldconfig(8) to find its library, for which no other source has time.
    import magic

    kind = magic.from_buffer(head, mime=True)
    if kind not in _COMPRESSED and first_entry(iter([head])) is None:
        raise MalformedArchive(path, f"it is {magic.from_buffer(head).partition(',')[0][:120]}", hint=_HINT)
    return _open_tar(path, options)


def _open_tar(path: Path, options: SourceOptions) -> Source:
    found: Source = TarballSource(path)
    with open_archive(path) as file:
        for name in _names(file, path):
            if name == DOCKER_FILE:
                return docker_archive(path, None, options)
            if name == LAYOUT_FILE:
                # `docker save` writes both; what its own file says is what Docker shows.
                found = oci_archive(path, None, options)
            elif not _OF_AN_IMAGE.fullmatch(name):
                return TarballSource(path)
    return found


def _names(file: BinaryIO, path: Path) -> Iterator[str]:
    """Of the members, but the top directory's. Raises MalformedArchive."""
    is_first = True
    try:
        for entry in _entries(file, path):
            is_first = False
            name = entry.name.decode(errors="replace").removeprefix("./").rstrip("/")
            if name not in ("", "."):
                yield name
    except MalformedTar as exc:
        reason = "what is compressed in it is no tar archive" if is_first else exc.message
        raise MalformedArchive(path, reason, hint=_HINT) from exc
    except (*DECOMPRESSION_ERRORS, OSError) as exc:
        raise MalformedArchive(path, f"it cannot be decompressed: {exc}") from exc


def _entries(file: BinaryIO, path: Path) -> Iterator[Entry]:
    if is_plain_tar(file):
        return (entry for entry, _ in entries_of(file, path))
    file.seek(0)
    return iter(Reader(decompress(file)))
