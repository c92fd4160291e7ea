"""Bugs of the read cache."""

from .bug import Bug

READS = "tests/filesystem/test_read_cache.py::"
LIMIT = "tests/filesystem/test_cache_limit.py::"

BUGS = [
    Bug(
        name="cache-limit-ignored",
        what="Room for a block is taken whatever the cache holds.",
        breaks="lesson 8: hard budgets, separate for spool and cache",
        path="artstorefs/state/cache_room.py",
        old="            if self.used_bytes + self.taken_bytes + size_bytes > limit:\n",
        new="            if size_bytes > limit:\n",
        caught_by=(
            LIMIT + "test_cache_never_grows_beyond_its_limit",
            LIMIT + "test_what_was_used_least_recently_goes_first",
        ),
    ),
    Bug(
        name="pinned-block-evicted",
        what="What is pinned after a scan has found it unused is evicted.",
        breaks="SEMANTICS: what is pinned never goes",
        path="artstorefs/state/cache.py",
        old="status.st_mtime_ns != found.used_ns or status.st_mode & PINNED",
        new="status.st_mtime_ns != found.used_ns",
        caught_by=(LIMIT + "test_pinned_files_stay_whatever_is_asked_for",),
    ),
    Bug(
        name="wrong-block-stays-in-the-cache",
        what="A block of the cache that is found wrong is not removed.",
        breaks="SEMANTICS: what has changed in the cache is fetched again",
        path="artstorefs/filesystem/read_cache.py",
        old="            self.forget(place)\n            return None\n",
        new="            return None\n",
        caught_by=(READS + "test_flipped_bit_in_the_cache_is_fetched_again",),
    ),
    Bug(
        name="answer-from-memory-not-verified",
        what="A block that the cache has no room for is served as the transfer process says it is.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/filesystem/read_cache.py",
        old="                    await self._require_right(answer.data, job)\n",
        new="                    await trio.lowlevel.checkpoint()\n",
        caught_by=(READS + "test_block_that_is_served_from_memory_is_verified",),
    ),
    Bug(
        name="fetch-belongs-to-its-first-reader",
        what="A block that somebody waits for already is asked for again.",
        breaks="issue 4: several readers of one file share one fetch",
        path="artstorefs/filesystem/read_cache.py",
        old="        running = self._fetches.get(job.name)\n        if running is None:\n",
        new="        running = self._fetches.get(job.name)\n"
        "        if running is None or running.is_sent:\n",
        caught_by=(READS + "test_wish_for_a_block_that_is_under_way_joins_its_fetch",),
    ),
]
