"""The `[recall]` table: how archived content comes back, and who is told."""

from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from artstorefs.core.configuration_messages import PlaceError
from artstorefs.core.configuration_parts import NOT_IN_PATHS, PATH_ALLOWED, AbsolutePath, Table

# The kernel keeps 15 bytes of the name of a program (proc(5), comm).
_PROGRAMS: Final = r"^ *([!-~]{1,15}( +|$))*$"
_PROGRAMS_ALLOWED: Final = "names of programs, of up to 15 characters, with spaces between them"
NEVER_RECALLING: Final = (
    "updatedb tracker-miner-f tracker-extract localsearch-3 baloo_file baloo_file_extr tumblerd"
    " ffmpegthumbnail totem-video-thu clamscan clamd"
)
"""Programs that look into every file, or each that a window shows, and that nobody waits for."""

_WEB_ADDRESS_ALLOWED: Final = "an address that begins with http:// or https://, without a password"


def _check_web_address(value: object) -> object:
    if isinstance(value, str):
        parts = urlsplit(value)  # raises ValueError for brackets that do not match
        is_plain = "@" not in parts.netloc and not parts.fragment and not NOT_IN_PATHS.search(value)
        if not (is_plain and parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("not a web address")
        _ = parts.port  # raises ValueError for what is no port
    return value


WebAddress = Annotated[str, BeforeValidator(_check_web_address)]


class RecallConfiguration(Table):
    """The `[recall]` table: how content comes back that was archived, see SEMANTICS.md."""

    not_for: str = Field(NEVER_RECALLING, pattern=_PROGRAMS, description=_PROGRAMS_ALLOWED)
    webhook: WebAddress | None = Field(None, description=_WEB_ADDRESS_ALLOWED)
    webhook_secret_file: AbsolutePath | None = Field(None, description=PATH_ALLOWED)

    @model_validator(mode="after")
    def _check_webhook(self) -> Self:
        if self.webhook is not None and self.webhook_secret_file is None:
            raise PlaceError("webhook", "is set; it needs webhook_secret_file, to be signed")
        return self

    @property
    def programs(self) -> frozenset[str]:
        """Names of programs whose reading brings nothing back."""
        return frozenset(self.not_for.split())
