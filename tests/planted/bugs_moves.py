"""Bugs in moving files from one element to another: when the one may be given up for the other."""

from .bug import Bug

MOVES = "tests/filesystem/test_moves.py::"

BUGS = [
    Bug(
        name="target-not-read-back",
        what="What the target of a move has is believed, and the source's copy given up for it.",
        breaks="MIGRATE-1: the hash is verified on the target",
        path="artstorefs/transfer/carrier.py",
        old="        if digest.hexdigest() != item.content.sha256:\n",
        new="        if not digest.hexdigest():\n",
        caught_by=(MOVES + "test_what_the_target_does_not_give_back_does_not_count",),
    ),
    Bug(
        name="older-state-moved",
        what="A file counts as moved although it has changed since its copy was made.",
        breaks="MIGRATE-2: a file that changes on its way is moved as it is then",
        path="artstorefs/state/outcomes.py",
        old="        if there is None or not self._policy.is_current(node, there):\n",
        new="        if there is None:\n",
        caught_by=(MOVES + "test_a_file_that_changes_on_its_way_is_moved_as_it_is_then",),
    ),
    Bug(
        name="removed-with-no-other",
        what="A copy leaves its element although no other has the content.",
        breaks="promise 2: what was acknowledged is kept",
        path="daemon/artstorefs_daemon/departures.py",
        old='            return "no other element has the content now"\n',
        new="            return None\n",
        caught_by=(MOVES + "test_nothing_leaves_that_no_other_has",),
    ),
    Bug(
        name="retained-file-moved",
        what="A file leaves its element before the time until which it is retained there.",
        breaks="MIGRATE-6: retained files stay where they are",
        path="daemon/artstorefs_daemon/migration_refusals.py",
        old='    if until is not None:\n        return f"is retained until {until}"\n    copies',
        new="    copies",
        caught_by=(MOVES + "test_retained_files_stay",),
    ),
]
