"""Our own files in every built image: the init that runs before the image's (`netboot/init/`)."""

from pathlib import Path

from images.segments import OwnFile

_INIT = Path(__file__).with_name("init") / "init"


def own_files() -> list[OwnFile]:
    """What `images.rebuild` puts into segment 0."""
    return [OwnFile(path=b"init", mode=0o755, content=_INIT.read_bytes())]
