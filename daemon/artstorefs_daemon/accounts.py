"""User names from the password database of this machine, remembered."""

import functools
import pwd

from artstorefs.transfer.documents import Account


@functools.lru_cache(maxsize=4096)
def account(uid: int) -> Account:
    """The account of a user id; an unknown one is named `uidNUMBER`, which is still a fact."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(f"uid{uid}", "")
    return Account(entry.pw_name, entry.pw_gecos.split(",")[0])
