"""Reading an attr.json or node record that somebody else has written since we did.

The index remembers size and mark (`ObjectStat.mark`) of every document as we wrote or last read
it. An observation carries what others may write: the custom attributes, and keys that a rewrite of
ours has to keep. Facts about the object and the `posix` section stay ours; what contradicts them is
for fsck.
"""

from artstorefs.core.attributes import FileAttributesV2
from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.node_record import LinkRecord
from artstorefs.elements.interface import Element, ObjectStat
from artstorefs.state.index import Copy
from artstorefs.state.outcomes import Observed
from artstorefs.state.reader import Reader
from artstorefs.transfer.documents import Accounts, carried_by
from artstorefs.transfer.reading import read_document


def is_changed(stat: ObjectStat, copy: Copy) -> bool:
    """Whether somebody else has written the document of `copy`."""
    return (stat.size_bytes, stat.mark) != (copy.seen_size, copy.seen_modified_ns)


def observe(
    element: Element, stat: ObjectStat, copy: Copy, reader: Reader, accounts: Accounts
) -> Observed | None:
    """Read a changed document; None when there is nothing in it to take over. Raises
    DocumentError when it is none of this node, ElementError when the element cannot be asked.

    A document with another revision than we remember is one of ours that was written just before
    a process died: it says nothing new, and may be older than what the index has.
    """
    document = read_document(element, stat.key)
    snapshot = reader.snapshot(copy.ino, copy.element)
    if snapshot is None:
        return None
    if isinstance(document, LinkRecord) or document.file_id.bytes != snapshot.node.file_id:
        where = f"{element.id}: {stat.key}"
        raise DocumentInvalid(where, f"file_id is {document.file_id}, not that of this file")
    if document.posix is not None and document.posix.revision != copy.revision:
        return None
    if isinstance(document, FileAttributesV2) and copy.revision == 0:
        _require_same_object(document, copy, f"{element.id}: {stat.key}")
    return Observed(
        ino=copy.ino,
        element=element.id,
        custom=dict(document.custom_attributes),
        carried=carried_by(document, snapshot, accounts),
        seen_size=stat.size_bytes,
        seen_modified_ns=stat.mark,
    )


def _require_same_object(document: FileAttributesV2, copy: Copy, where: str) -> None:
    """Raise DocumentInvalid if an attr.json of others has come to speak of other content: objects
    do not change, and what a reader has opened must stay what it is."""
    known = copy.sha256.hex() if copy.sha256 is not None else ""
    if (document.file_size, document.checksum) != (copy.size, known):
        reason = "speaks of other content than before; a rebuild of the index would believe it"
        raise DocumentInvalid(where, reason)
