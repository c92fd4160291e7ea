"""Bugs of archived content: what leaves an element too early, comes back wrong, or unasked."""

from .bug import Bug

OFFLINE = "tests/filesystem/test_offline.py::"
RECALLS = "tests/filesystem/test_recalls.py::"
WEBHOOK = "tests/filesystem/test_recall_webhook.py::"

BUGS = [
    Bug(
        name="offline-not-read-back",
        what="What the medium has taken is believed without being read back.",
        breaks="SEMANTICS: AR-2",
        path="artstorefs/transfer/take_offline.py",
        old="    right = [job for job in copied if _is_right(target, job, result)]\n",
        new="    right = copied\n",
        caught_by=(OFFLINE + "test_what_reads_back_wrong_is_not_removed",),
    ),
    Bug(
        name="attr-json-goes-offline",
        what="With an object its attr.json is removed from the element.",
        breaks="SEMANTICS: AR-1",
        path="artstorefs/state/offline.py",
        old="Removal(copy.ino, place, content_only=True)",
        new="Removal(copy.ino, place)",
        caught_by=(OFFLINE + "test_content_moves_and_everything_else_stays",),
    ),
    Bug(
        name="any-disk-is-the-medium",
        what="Whatever archive the disk is of that is mounted there, content goes to it.",
        breaks="SEMANTICS: AR-3",
        path="artstorefs/elements/offline.py",
        old="                check_identity(opened, self.archive_id, self.path)\n",
        new="                opened.capacity()\n",
        caught_by=(OFFLINE + "test_no_medium_no_move[another]",),
    ),
    Bug(
        name="recalled-without-the-whole-hash",
        what="Content is online once its blocks are there, whatever it is as a whole.",
        breaks="SEMANTICS: AR-7",
        path="artstorefs/filesystem/cache_orders.py",
        old="                await self._cache.require_whole(copies[0])\n",
        new="                await trio.lowlevel.checkpoint()\n",
        caught_by=(RECALLS + "test_only_what_is_right_counts[whole]",),
    ),
    Bug(
        name="recalled-and-evicted",
        what="The pass over all pins lets go of what was recalled.",
        breaks="SEMANTICS: AR-6",
        path="artstorefs/filesystem/recalling.py",
        old="        orders.recalled = self._kept\n",
        new="",
        caught_by=(RECALLS + "test_what_is_asked_for_comes_and_goes",),
    ),
    Bug(
        name="crawler-recalls",
        what="Whoever reads brings content back, also programs that look into every file.",
        breaks="SEMANTICS: AR-9",
        path="artstorefs/filesystem/recalls.py",
        old="        return bool(names) and not self._not_for.intersection(names)\n",
        new="        return bool(names)\n",
        caught_by=(RECALLS + "test_some_readers_bring_nothing[0-names0]",),
    ),
    Bug(
        name="webhook-of-yesterday",
        what="What is signed has no time in it, so that it can be sent again at any time.",
        breaks="SEMANTICS: AR-11",
        path="daemon/artstorefs_daemon/recall_webhook.py",
        old='f"{now_s}.".encode() + body, hashlib.sha256',
        new="body, hashlib.sha256",
        caught_by=(WEBHOOK + "test_it_is_told_once_when_all_is_there",),
    ),
]
