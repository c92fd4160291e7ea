"""What speaks against moving files from one element to another: asked before, changes nothing."""

from artstorefs.core.migration import Migration, MigrationRefused
from artstorefs.core.modes import Operation, refusal
from artstorefs.core.sizes import format_size
from artstorefs.filesystem.archive import Archive
from artstorefs.state.node import Node
from artstorefs_daemon.element_reports import ElementReports


def require_elements(archive: Archive, source: str, target: str) -> None:
    """Raise MigrationRefused unless these are two elements of the archive."""
    known = ", ".join(archive.modes.states)
    for element in (source, target):
        if element not in archive.modes.states:
            raise MigrationRefused(f"there is no element {element}; there are: {known}")
    if source == target:
        raise MigrationRefused(f"{source} is both where files are and where they are to go")


def why_not(
    archive: Archive,
    reports: ElementReports,
    last: Migration | None,
    source: str,
    target: str,
    size_bytes: int,
) -> str | None:
    """What modes, copies, the target, its room or an earlier migration have against it; None:
    nothing."""
    if archive.read_only:
        return "the archive is mounted read-only"
    if last is not None and last.is_under_way:
        return (
            f"migration {last.number} from {last.source} to {last.target} is {last.phase}; wait "
            "for its end, or cancel it"
        )
    return (
        _why_not_by_modes(archive, source, target)
        or _why_not_by_copies(archive, source)
        or _why_not_by_target(reports, target, size_bytes)
    )


def _why_not_by_modes(archive: Archive, source: str, target: str) -> str | None:
    modes = archive.modes
    for element in (source, target):
        if modes.states[element].target is not None:
            return f"the mode of element {element} is being changed; wait for the end of that"
        if refusal(modes.in_force[element], Operation.CREATE, False):
            what = "nothing may be removed" if element == source else "nothing may come to it"
            return f"element {element} is in mode {modes.in_force[element]}: {what}"
    return None


def _why_not_by_copies(archive: Archive, source: str) -> str | None:
    modes, wanted = archive.modes.in_force, archive.policy.wanted
    able = [one for one in modes if not refusal(modes[one], Operation.CREATE, False)]
    left = len(able) - (source in able)
    if left < wanted:
        return f"copies = {wanted}, and without {source} only {left} of the elements take files"
    return None


def _why_not_by_target(reports: ElementReports, target: str, size_bytes: int) -> str | None:
    if target in reports.errors:
        return f"element {target} does not answer: {reports.errors[target]}"
    capacity = reports.capacities.get(target)
    free_bytes = None if capacity is None else capacity.free_bytes
    if free_bytes is not None and free_bytes < size_bytes:
        room, needed = format_size(free_bytes), format_size(size_bytes)
        return f"element {target} has room for {room}, and {needed} are to be moved"
    return None


def why_not_file(archive: Archive, migration: Migration, node: Node) -> str | None:
    """What speaks against moving one file, if anything does."""
    until = archive.guard.retained_until(node, migration.source)
    if until is not None:
        return f"is retained until {until}"
    copies = archive.policy.counted(archive.index.copies(node.ino))
    wanted, elements = archive.policy.wanted, {copy.element for copy in copies}
    if migration.target in elements and len(elements) - 1 < wanted:
        return f"{wanted} copies are wanted, and {migration.target} has one already"
    return None
