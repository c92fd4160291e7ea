"""User names from the password database of this machine, remembered."""

import functools
import pwd

from artstorefs.core.json_text import cut_utf8
from artstorefs.core.naming import USERNAME_LIMIT_BYTES
from artstorefs.core.room import FULLNAME_LIMIT_BYTES
from artstorefs.transfer.documents import Account


@functools.lru_cache(maxsize=4096)
def account(uid: int) -> Account:
    """The account of a user id; an unknown one is named `uidNUMBER`, which is still a fact."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(f"uid{uid}", "")
    fullname = entry.pw_gecos.split(",")[0]
    return Account(
        cut_utf8(entry.pw_name, USERNAME_LIMIT_BYTES), cut_utf8(fullname, FULLNAME_LIMIT_BYTES)
    )
