"""Bugs of files that expire: too early, unseen, under somebody's hands."""

from .bug import Bug

EXPIRY = "tests/filesystem/test_expiry.py::"
CLOCKS = "tests/unit/test_expiry.py::"

BUGS = [
    Bug(
        name="age-by-mtime",
        what="A file is as old as its mtime says, which a restore sets to years ago.",
        breaks="SEMANTICS: EXPIRE-2",
        path="artstorefs/filesystem/lifetimes.py",
        old="        changed_ns = self.changed_ns(node.ctime_ns)\n",
        new="        changed_ns = self.changed_ns(node.mtime_ns)\n",
        caught_by=(EXPIRY + "test_change_gives_it_all_of_its_time_anew[mode]",),
    ),
    Bug(
        name="grace-by-the-clock-alone",
        what="The grace period passes while nobody can see what expires.",
        breaks="SEMANTICS: EXPIRE-5",
        path="artstorefs/core/expiry.py",
        old="min(now.wall_ns - shown.wall_ns, now.lived_ns - shown.lived_ns)\n",
        new="(now.wall_ns - shown.wall_ns)\n",
        caught_by=(CLOCKS + "test_grace_has_to_pass_by_both_clocks",),
    ),
    Bug(
        name="clock-always-believed",
        what="A clock that says 2038 shows every file, and a week later removes it.",
        breaks="SEMANTICS: EXPIRE-6",
        path="artstorefs/state/lived_time.py",
        old="        return abs(ahead_ns) <= differs_max_ns\n",
        new="        return True\n",
        caught_by=(
            CLOCKS + "test_no_leap_of_the_clock_takes_a_file_before_its_time",
            EXPIRY + "test_clock_that_leaps_is_told_of_and_nothing_goes",
        ),
    ),
    Bug(
        name="expired-while-open",
        what="A file is removed while somebody reads it.",
        breaks="SEMANTICS: EXPIRE-4",
        path="artstorefs/filesystem/clean_up.py",
        old="            is_busy=self._is_held(node.ino) or self._archive",
        new="            is_busy=self._archive",
        caught_by=(EXPIRY + "test_what_is_open_stays_until_it_is_closed",),
    ),
    Bug(
        name="retained-file-shown-as-expiring",
        what="A file that is retained comes to its end before that is over.",
        breaks="SEMANTICS: EXPIRE-1",
        path="artstorefs/core/expiry.py",
        old="    return max(changed_ns + life_ns, retained_until_ns)\n",
        new="    return changed_ns + life_ns\n",
        caught_by=(EXPIRY + "test_what_is_retained_stays",),
    ),
    Bug(
        name="one-name-expires",
        what="Of a file with several names one goes, and the rest lives on.",
        breaks="SEMANTICS: EXPIRE-4",
        path="artstorefs/state/changes.py",
        old="            for parent, entry in places:\n",
        new="            for parent, entry in places[:1]:\n",
        caught_by=(EXPIRY + "test_all_names_go_in_one_step",),
    ),
]
