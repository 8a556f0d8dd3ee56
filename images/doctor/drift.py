"""Whether users and groups have the same ids here and there: shared file systems know ids only."""

from collections.abc import Iterator

from images.doctor.subject import Finding, Subject, listed, warning
from images.syncuser import AccountFiles, compare, remedy


def uid_drift(subject: Subject) -> Iterator[Finding]:
    passwd, group = subject.text(b"etc/passwd"), subject.text(b"etc/group")
    if subject.host.accounts is None or passwd is None or group is None:
        return
    image = AccountFiles(passwd=passwd, group=group)
    comparison = compare(image, subject.host.accounts, first_person=subject.host.first_person)
    synchronize = f"{subject.command} syncuser {subject.name}"
    if comparison.collisions:
        shown = listed([f"{one.number} ({one.name}; here {one.host_name})" for one in comparison.collisions])
        yield warning(
            f"ids of it belong to other names on this server: {shown}", f"{remedy(comparison.collisions)}; then: {synchronize}"
        )
    if comparison.moves:
        shown = listed([f"{move.kind} {move.name} ({move.old}, here {move.new})" for move in comparison.moves])
        yield warning(f"users and groups have other ids than on this server: {shown}", synchronize)
