"""Our own files in every built image: the init that runs before the image's (`netboot/init/`)."""

from importlib.resources import files

from images.segments import OwnFile


def own_files() -> list[OwnFile]:
    """What `images.rebuild` puts into segment 0."""
    return [OwnFile(path=b"init", mode=0o755, content=(files("netboot") / "init" / "init").read_bytes())]
