"""The errno table, for every class of error that there is."""

import errno

import pytest

from artstorefs.core import errors
from artstorefs.core.errors import ArtStoreFSError, errno_of

TABLE = {
    errors.ArtStoreFSError: (("text",), errno.EIO),
    errors.ConfigurationError: (("a.toml", "key", "reason"), errno.EINVAL),
    errors.ArchiveInUse: (("photos", 42), errno.EBUSY),
    errors.StateError: (("/state/state.db", "reason"), errno.EIO),
    errors.StateFull: (("/state/state.db", "reason"), errno.ENOSPC),
    errors.DocumentError: (("where", "reason"), errno.EIO),
    errors.DocumentInvalid: (("where", "reason"), errno.EIO),
    errors.DocumentTooLarge: (("where", 5000, 4096), errno.ENOSPC),
    errors.ElementError: (("main", "a/b", "reason"), errno.EIO),
    errors.ObjectAbsent: (("main", "a/b"), errno.EIO),
    errors.ObjectExists: (("main", "a/b"), errno.EIO),
    errors.ObjectDamaged: (("main", "a/b", "reason"), errno.EIO),
    errors.ElementUnavailable: (("main", "a/b", "reason"), errno.EIO),
    errors.ElementOfAnother: (("main", "a/b", "reason"), errno.EIO),
    errors.MediumWanted: (("main", "/mnt/disk", "reason"), errno.EIO),
    errors.ElementFull: (("main", "a/b", "reason"), errno.ENOSPC),
    errors.ElementDenied: (("main", "a/b", "reason"), errno.EIO),
    errors.KeyInvalid: (("main", "a/b", "reason"), errno.EIO),
}


def all_classes(base=ArtStoreFSError):
    return {base}.union(*(all_classes(child) for child in base.__subclasses__()))


def test_every_error_of_the_core_is_in_the_table():
    assert {one for one in all_classes() if one.__module__ == errors.__name__} == set(TABLE)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_each_error_is_one_line_and_one_errno(kind):
    arguments, code = TABLE[kind]
    error = kind(*arguments)
    assert errno_of(error) == code
    assert str(error)
    assert "\n" not in str(error)


def test_what_is_not_ours_keeps_its_errno_or_is_eio():
    assert errno_of(OSError(errno.ENOTEMPTY, "x")) == errno.ENOTEMPTY
    assert errno_of(OSError("no code")) == errno.EIO
    assert errno_of(ValueError("x")) == errno.EIO


def test_without_key_or_holder_messages_still_read_well():
    assert str(errors.ConfigurationError("a.toml", "", "is empty")) == "a.toml: is empty"
    assert str(errors.ElementUnavailable("main", "", "no answer")) == "main: no answer"
    assert "another process" in str(errors.ArchiveInUse("photos", 0))
