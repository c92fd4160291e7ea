"""The list of filesystems that updatedb leaves out: our type goes in once, and out again."""

import pytest

from artstorefs_tools.updatedb import pruned, unpruned


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('PRUNEFS="NFS proc"\n', 'PRUNEFS="NFS proc fuse.artstorefs"\n'),
        ('  PRUNEFS = "NFS"  # all\nX="y"\n', '  PRUNEFS = "NFS fuse.artstorefs"  # all\nX="y"\n'),
        ('PRUNEFS=""\n', 'PRUNEFS="fuse.artstorefs"\n'),
        ('# PRUNEFS="NFS"\n', None),
        ("", None),
        ('PRUNEPATHS="/tmp"', None),
    ],
)
def test_type_goes_in_once_and_out_again(before: str, after: str | None) -> None:
    changed = pruned(before)
    if after is None:
        assert changed.splitlines()[-1] == 'PRUNEFS = "fuse.artstorefs"'
    else:
        assert changed == after
    assert pruned(changed) == changed
    assert unpruned(changed).rstrip("\n") == before.rstrip("\n")


@pytest.mark.parametrize("text", ['PRUNEFS="nfs FUSE.ArtStoreFS"\n', 'PRUNEFS="fuse.artstorefs"\n'])
def test_what_is_left_out_already_stays_as_it_is(text: str) -> None:
    assert pruned(text) == text


def test_other_types_are_never_touched() -> None:
    text = 'PRUNEFS="fuse.artstorefs2 xfuse.artstorefs nfs"\n'
    assert unpruned(pruned(text)) == text
    assert unpruned(text) == text
