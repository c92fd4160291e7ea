"""What lies on every element beside the objects: archive.json, README.txt, restore.py."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from artstorefs.core.archive_record import ArchiveRecord, render_archive_record
from artstorefs.core.errors import ElementError, ObjectAbsent
from artstorefs.elements.identified import read_layout
from artstorefs.elements.interface import ARCHIVE_KEY, Element

README = """\
This directory belongs to an archive kept by ArtStoreFS.

YYYY/MM/DD/HH/ hold the files of the archive as they are: ordinary files that any program can
open. Beside each one lies NAME.attr.json, readable text, which says what the file was called,
in which directory it was, who made it when, its size, its SHA-256 checksum and its attributes.

.artstorefs/nodes holds the same for directories, symbolic links and empty files, one small text
for each. The tree hangs together by identifiers: `posix.parent` of each text is the `file_id` of
the directory that the file is in; the root directory is the one that is its own parent.

.artstorefs/archive.json says which archive this is. Copying this directory copies the archive.

To get the whole tree back without ArtStoreFS: python3 .artstorefs/restore.py TARGET
It needs Python 3.8 or later and nothing else, and says more with --help.
"""

MEDIUM_README = """\
This is the medium of one element of an archive kept by ArtStoreFS: content that was archived lies
here, and no longer on the element. Beside it NAME.blocks are checksums, block by block.

YYYY/MM/DD/HH/ hold the files as they are: ordinary files that any program can open, at the same
places as on the element. What they were called, and where they belong, is said by the texts
NAME.attr.json, which stay on the element.

.artstorefs/archive.json says which archive this is, and of which element (element_id).

To get the whole tree back without ArtStoreFS, where ELEMENT is the directory of the element and
MEDIUM this one: python3 .artstorefs/restore.py TARGET --element ELEMENT --offline MEDIUM
Or copy what is here onto the element, without replacing anything, and nothing is archived any more:
cp -rn MEDIUM/[0-9]* ELEMENT
"""

README_KEY = ".artstorefs/README.txt"
RESTORE_KEY = ".artstorefs/restore.py"
_RESTORE_LIMIT_BYTES = 1 << 20


def _guides(readme: str = README) -> dict[str, bytes]:
    """What helps whoever finds the element, by key."""
    restore = Path(__file__).with_name("restore.py").read_bytes()
    return {README_KEY: readme.encode(), RESTORE_KEY: restore}


def refresh_guides(element: Element) -> bool:
    """Write README.txt and restore.py where they are not those of this release; whether they were
    written. For elements that take new files. Raises ElementError."""
    stale = {key: data for key, data in _guides().items() if _found(element, key) != data}
    for key, data in stale.items():
        element.replace(key, data)
    if stale:
        element.barrier()
    return bool(stale)


def _found(element: Element, key: str) -> bytes | None:
    try:
        return element.read(key, 0, _RESTORE_LIMIT_BYTES)
    except ObjectAbsent:
        return None


def write_layout(
    element: Element, archive_id: UUID, archive_name: str, readme: str = README
) -> bool:
    """Make an initialized, empty element or medium, or an adopted element, one of this archive;
    False if it is that already. Repeating it is fine.

    Raises ElementError when the element belongs to another archive already.
    """
    found = read_layout(element)
    if found is not None:
        if found.archive_id != archive_id:
            raise ElementError(
                element.id, ARCHIVE_KEY, f"belongs to another archive, {found.archive_name}"
            )
        return False
    record = ArchiveRecord(
        archive_id=archive_id,
        archive_name=archive_name,
        element_id=element.id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    for key, data in _guides(readme).items():
        element.replace(key, data)
    element.replace(ARCHIVE_KEY, render_archive_record(record))
    element.barrier()
    return True
