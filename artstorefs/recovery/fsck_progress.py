"""How far a deep check has come: a small file in the state directory, so that the next run goes on.

    fsck-progress.json   {"archive_id": …, "element": …, "key": …, "objects": …, "bytes": …,
                          "bad": [[element, key], …]}

Objects are hashed in order of element and key; everything up to `element`, `key` is done. What was
bad is hashed again by the next run, because it may have been mended meanwhile. The file is written
atomically and durably, and is gone when a run has come to its end. One that cannot be read, or is
of another archive, counts as none: then everything is hashed.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from artstorefs.elements.durable import write_file_durably

FILE_NAME = "fsck-progress.json"

SAVE_INTERVAL_S = 5.0
"""At most so much hashing is done twice; a save costs two fsyncs."""


@dataclass(slots=True)
class Progress:
    """Where a deep check is. `path` is None where there is no state directory to remember it."""

    path: Path | None
    archive_id: str
    element: str = ""
    key: str = ""
    objects: int = 0
    bytes: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    _saved_s: float = field(default_factory=time.monotonic)

    @classmethod
    def load(cls, state_dir: Path | None, archive_id: str) -> "Progress":
        """Where the last run was cut off, or the beginning."""
        if state_dir is None or not state_dir.is_dir():
            return cls(None, archive_id)
        path = state_dir / FILE_NAME
        try:
            found = json.loads(path.read_bytes())
            if found["archive_id"] == archive_id:
                return cls(
                    *(path, archive_id, str(found["element"]), str(found["key"])),
                    *(int(found["objects"]), int(found["bytes"])),
                    [(str(element), str(key)) for element, key in found["bad"]],
                )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return cls(path, archive_id)

    def is_done(self, element: str, key: str) -> bool:
        """Whether an earlier run has hashed this object and found it good."""
        return (element, key) <= (self.element, self.key) and (element, key) not in self.bad

    def hashed(self, element: str, key: str, size: int, *, good: bool) -> None:
        """An object is done, and all before it."""
        self.element, self.key = max((self.element, self.key), (element, key))
        self.objects += 1
        self.bytes += size
        if (element, key) in self.bad:
            self.bad.remove((element, key))
        if not good:
            self.bad.append((element, key))
        if time.monotonic() - self._saved_s >= SAVE_INTERVAL_S:
            self.save()

    def save(self) -> None:
        """Remember it durably."""
        self._saved_s = time.monotonic()
        if self.path is not None:
            members = {
                "archive_id": self.archive_id,
                "element": self.element,
                "key": self.key,
                "objects": self.objects,
                "bytes": self.bytes,
                "bad": self.bad,
            }
            write_file_durably(self.path, json.dumps(members).encode() + b"\n")

    def finish(self) -> None:
        """The run has come to its end: the next one begins anew."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
