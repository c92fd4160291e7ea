"""What a line of the log is about, beside its message: fields that programs can look for.

    log.warning("%s is not stored yet: %s", name, exc, extra=about(exc, file_id=node.file_id))

`about` is the value of `extra`; how the fields are shown is for whoever writes the lines.
"""

from typing import Final

ATTRIBUTE: Final = "about"
"""The attribute of a `logging.LogRecord` that has them."""


def about(
    exc: BaseException | None = None,
    *,
    element: str | None = None,
    key: str | None = None,
    file_id: bytes | None = None,
    path: bytes | str | None = None,
) -> dict[str, dict[str, str]]:
    """The fields that are known. An error of ours says by itself which element, key or path it
    is about. `path` is of a file in the archive, from its root, or of one of this machine."""
    found = {
        "element": element or _said(exc, "element"),
        "key": key or _said(exc, "key"),
        "file_id": None if file_id is None else _uuid(file_id),
        "path": path.decode(errors="backslashreplace") if isinstance(path, bytes) else path,
        "error": None if exc is None else f"{type(exc).__name__}: {exc}",
    }
    found["path"] = found["path"] or _said(exc, "path") or _said(exc, "filename")
    return {ATTRIBUTE: {name: value for name, value in found.items() if value}}


def _uuid(file_id: bytes) -> str:
    """As `str(UUID(bytes=file_id))`, in a fifth of the time."""
    digits = file_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _said(exc: BaseException | None, field: str) -> str | None:
    value = getattr(exc, field, None)
    return value if isinstance(value, str) else None
