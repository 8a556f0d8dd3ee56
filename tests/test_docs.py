"""What the documents name exists."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BOOT = ROOT / "docs" / "boot-sequence.md"
NAME = re.compile(r"`((?:bootsvc|images|netboot)(?:\.\w+)+)`")


def resolve(name: str) -> object:
    """The object that a dotted name means: the longest module of it, and attributes from there on."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[split:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", sorted(set(NAME.findall(BOOT.read_text()))))
def test_boot_sequence_names_what_exists(name: str) -> None:
    assert callable(resolve(name))


def test_every_step_names_something() -> None:
    """A step without a name is a story; those that happen on the node name the script or the kernel."""
    steps = re.split(r"^\d+\. ", BOOT.read_text(), flags=re.MULTILINE)[1:]
    assert len(steps) > 20
    assert [step for step in steps if not NAME.search(step) and not re.search("netboot/init/init|kernel|init", step)] == []


def test_a_wrong_name_is_noticed() -> None:
    with pytest.raises(AttributeError):
        resolve("images.errors.NoSuchName")
    with pytest.raises(ModuleNotFoundError):
        resolve("nosuchpackage.x")


def test_files_that_the_documents_name_exist() -> None:
    """Paths below our own folders, in backticks, in the documents at the top."""
    folders = r"(?:docs|tests|vm-lab|images|netboot|bootsvc|\.ci)/[\w./-]+"
    for document in ("README.md", "CONTRIBUTING.md", "docs/boot-sequence.md"):
        for path in re.findall(rf"`({folders})`", (ROOT / document).read_text()):
            assert (ROOT / path).exists(), f"{document} names {path}"


def test_every_document_is_in_the_readme() -> None:
    named = set(re.findall(r"`docs/([\w-]+\.md)`", (ROOT / "README.md").read_text()))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - named == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        named = set(re.findall(r"(?:`|&& )make ([a-z]+)", (ROOT / document).read_text()))
        assert named <= targets, document
