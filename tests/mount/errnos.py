"""`refused(errno.EEXIST)` around what has to fail with it, and with nothing else."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(*codes: int) -> Iterator[None]:
    """The block raises an OSError with one of these errnos."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the errno is checked below
        yield
    names = [errno.errorcode[code] for code in codes]
    assert caught.value.errno in codes, f"{caught.value}, not {' or '.join(names)}"
