"""Moving what lies on an element into its quarantine; `core/quarantine.py` says what that is.

step                                          a crash after it leaves
1 copy and report staged, one barrier         both, and the original; the same again does no harm
2 the original removed, by the caller         the quarantine
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from artstorefs.core.errors import ElementError, ObjectAbsent
from artstorefs.core.quarantine import quarantine_keys, render_report
from artstorefs.elements.interface import COMPONENT_BYTES_MAX, Element

_COPY_BYTES = 1 << 20
_PREFIX = "quarantine-"


class Quarantine:
    """Of one archive. `roots`: the directories of local elements, by id, where the copy is a hard
    link; of others it goes through a file in `scratch_dir`."""

    def __init__(self, roots: Mapping[str, Path], scratch_dir: Path) -> None:
        self._roots = roots
        self._scratch_dir = scratch_dir

    def remove_leftovers(self) -> None:
        """Files on their way that a process has left; before this one makes any."""
        for path in self._scratch_dir.glob(f"{_PREFIX}*"):
            path.unlink(missing_ok=True)

    def stage(
        self, element: Element, key: str, time_ns: int, *, kind: str, what: str, why: str
    ) -> str:
        """Stage what lies at `key`, and a report on it, in the quarantine; returns the new key.

        Raises ObjectAbsent if there is nothing, other ElementErrors if it cannot be kept.
        """
        target, report_key = quarantine_keys(time_ns, key)
        if len(report_key.rpartition("/")[2].encode()) > COMPONENT_BYTES_MAX:
            raise ElementError(element.id, key, "its name is too long for a report beside it")
        if not _is_there(element, target):  # whole, or not at all; from before a kill
            self._copy(element, key, target)
        element.replace(report_key, render_report(time_ns, key, kind, what, why))
        return target

    def _copy(self, element: Element, key: str, target: str) -> None:
        root = self._roots.get(element.id)
        if root is not None:
            source = str(root / key)
            try:
                size = os.stat(source).st_size
            except FileNotFoundError:
                size = element.stat(key).size_bytes  # says whether it, or the whole disk, is gone
            element.put(target, source, size_bytes=size)
            return
        with (
            element.open_read(key) as stream,
            tempfile.NamedTemporaryFile(dir=self._scratch_dir, prefix=_PREFIX) as copy,
        ):
            shutil.copyfileobj(stream, copy, _COPY_BYTES)
            copy.flush()
            element.put(target, copy.name, size_bytes=copy.tell())


def _is_there(element: Element, key: str) -> bool:
    try:
        element.stat(key)
    except ObjectAbsent:
        return False
    return True
