"""The variables of one definition while it is read: names, the innermost of which hides the others."""


class Variables:
    """A stack of names with a slot for each; looking one up takes the same time however many there are."""

    def __init__(self, slot: int = 0) -> None:
        self._names = ["$"]
        self._slots = {"$": [slot]}

    def __contains__(self, name: str) -> bool:
        return bool(self._slots.get(name))

    def declare(self, name: str, slot: int = 0) -> None:
        self._names.append(name)
        self._slots.setdefault(name, []).append(slot)

    def slot(self, name: str) -> int | None:
        """The slot of the innermost variable of this name."""
        found = self._slots.get(name)
        return found[-1] if found else None

    def mark(self) -> int:
        return len(self._names)

    def forget(self, mark: int) -> None:
        """Drop what was declared after `mark`."""
        while len(self._names) > mark:
            self._slots[self._names.pop()].pop()
