"""One code path, two sets of words: `wwctl container` speaks as Warewulf 4.0 did, `wwctl image` as 4.7 does."""

import msgspec


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """`noun` is the word for an image. With `finishes_import`, an import gives the image our resolv.conf and builds it."""

    noun: str
    help: str
    finishes_import: bool
    rebuilding: str
    """What exec says before it builds; `{name}` is the image."""
    current: str
    """What is said when nothing changed."""
    up_to_date: str
    """What `import --update` says when the source has not changed."""
    prompt: str
    """PS1 of a shell in an image: `{name}`, `{mark}` for one that is read-only, `{rest}` is what $WW_PS1 says."""


CONTAINER = Vocabulary(
    noun="container",
    help="Import containers, change the images made of them, and build these into what nodes boot.",
    finishes_import=True,
    rebuilding="Rebuilding container...",
    current="[INFO]     Skipping (VNFS is current)",
    up_to_date="[INFO]     Skipping ({name} is up to date)",
    prompt="[{name}] Warewulf> ",
)
IMAGE = Vocabulary(
    noun="image",
    help="Import images, change them, and build them into what nodes boot.",
    finishes_import=False,
    rebuilding="Building image: {name}",
    current="Skipping (Image is current)",
    up_to_date="Skipping ({name} is up to date)",
    prompt="[warewulf:{name}{mark}] {rest}",
)
VOCABULARIES = {words.noun: words for words in (CONTAINER, IMAGE)}
