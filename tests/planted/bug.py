"""What a planted bug is: one place of the source, what it becomes, and who has to notice.

A bug is an exact piece of the source and what stands in its place. Unlike a diff it has no line
numbers and no more context than it needs, so that it survives changes around it; where the piece
is not there any more, or is there twice, `planted_into` raises: whoever changed the source decides
what the bug looks like now. It is never passed over.
"""

import ast
from dataclasses import dataclass
from pathlib import Path


class BugDoesNotFit(Exception):
    """The source has changed under a bug."""


@dataclass(frozen=True, slots=True)
class Bug:
    """`breaks` is the promise (DESIGN), the lesson (LESSONS) or the rule that it breaks; each of
    `caught_by`, the ids of tests, has to fail with it: of a test with parameters one case of it."""

    name: str
    what: str
    breaks: str
    path: str
    old: str
    new: str
    caught_by: tuple[str, ...]

    def planted_into(self, text: str) -> str:
        """The source with the bug in it, which is still Python."""
        count = text.count(self.old)
        if count != 1:
            raise BugDoesNotFit(f"{self.name}: found {count} times in {self.path}:\n{self.old}")
        planted = text.replace(self.old, self.new)
        if ast.dump(ast.parse(planted)) == ast.dump(ast.parse(text)):
            raise BugDoesNotFit(f"{self.name}: changes nothing in {self.path}")
        return planted

    def plant(self, tree: Path) -> None:
        """Plant it into a copy of the source tree."""
        path = tree / self.path
        planted = self.planted_into(path.read_text())
        path.unlink()  # and not into it: it may be a hard link to what it was copied from
        path.write_text(planted)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()  # its key is size and second, which may both be the same
