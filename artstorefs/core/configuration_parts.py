"""What the tables of a configuration are made of: their common rules, and paths."""

import os
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict

# Control characters would break lines of logs and tables; TOML cannot carry what is not UTF-8.
NOT_IN_PATHS: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
PATH_ALLOWED: Final = "an absolute path in UTF-8, without '..' and control characters"


def _read_path(value: object) -> object:
    if not isinstance(value, str | Path):
        return value
    text = os.fspath(value)
    if not text.startswith("/") or ".." in text.split("/") or NOT_IN_PATHS.search(text):
        raise ValueError("not an absolute path")
    return Path("/" + text.lstrip("/"))  # POSIX lets a system give `//x` a meaning of its own


AbsolutePath = Annotated[Path, BeforeValidator(_read_path)]


class Table(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_by_name=True
    )
