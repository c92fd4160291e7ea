"""Content types (RFC 6838) by a name's extension, the same on every machine.

A table of our own, because Python's `mimetypes` reads what the system has installed and differs
between versions; a `content_type` in an attr.json should not depend on who wrote it.
"""

from types import MappingProxyType
from typing import Final

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_OPEN: Final = "application/vnd.oasis.opendocument"

CONTENT_TYPES: Final = MappingProxyType(
    {
        # text
        "txt": "text/plain",
        "text": "text/plain",
        "log": "text/plain",
        "md": "text/markdown",
        "csv": "text/csv",
        "tsv": "text/tab-separated-values",
        "html": "text/html",
        "htm": "text/html",
        "css": "text/css",
        "js": "text/javascript",
        "mjs": "text/javascript",
        "xml": "text/xml",
        "vcf": "text/vcard",
        "ics": "text/calendar",
        "py": "text/x-python",
        "c": "text/x-c",
        "h": "text/x-c",
        "sh": "application/x-sh",
        "json": "application/json",
        "yaml": "application/yaml",
        "yml": "application/yaml",
        "tex": "application/x-tex",
        # documents
        "pdf": "application/pdf",
        "ps": "application/postscript",
        "eps": "application/postscript",
        "rtf": "application/rtf",
        "epub": "application/epub+zip",
        "doc": "application/msword",
        "xls": "application/vnd.ms-excel",
        "ppt": "application/vnd.ms-powerpoint",
        "docx": f"{_OFFICE}.wordprocessingml.document",
        "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
        "pptx": f"{_OFFICE}.presentationml.presentation",
        "odt": f"{_OPEN}.text",
        "ods": f"{_OPEN}.spreadsheet",
        "odp": f"{_OPEN}.presentation",
        "odg": f"{_OPEN}.graphics",
        "eml": "message/rfc822",
        # images
        "jpg": "image/jpeg",
        "jpeg": "image/jpeg",
        "png": "image/png",
        "gif": "image/gif",
        "webp": "image/webp",
        "avif": "image/avif",
        "heic": "image/heic",
        "heif": "image/heif",
        "tif": "image/tiff",
        "tiff": "image/tiff",
        "bmp": "image/bmp",
        "svg": "image/svg+xml",
        "ico": "image/vnd.microsoft.icon",
        "psd": "image/vnd.adobe.photoshop",
        "dng": "image/x-adobe-dng",
        "cr2": "image/x-canon-cr2",
        "nef": "image/x-nikon-nef",
        "arw": "image/x-sony-arw",
        "jp2": "image/jp2",
        "jxl": "image/jxl",
        # sound
        "mp3": "audio/mpeg",
        "m4a": "audio/mp4",
        "aac": "audio/aac",
        "ogg": "audio/ogg",
        "oga": "audio/ogg",
        "opus": "audio/ogg",
        "flac": "audio/flac",
        "wav": "audio/x-wav",
        "aif": "audio/x-aiff",
        "aiff": "audio/x-aiff",
        "mid": "audio/midi",
        # video
        "mp4": "video/mp4",
        "m4v": "video/mp4",
        "mov": "video/quicktime",
        "mpg": "video/mpeg",
        "mpeg": "video/mpeg",
        "mkv": "video/matroska",
        "webm": "video/webm",
        "avi": "video/x-msvideo",
        "ogv": "video/ogg",
        "mts": "video/mp2t",
        "mxf": "application/mxf",
        # archives and data
        "zip": "application/zip",
        "tar": "application/x-tar",
        "gz": "application/gzip",
        "tgz": "application/gzip",
        "bz2": "application/x-bzip2",
        "xz": "application/x-xz",
        "zst": "application/zstd",
        "7z": "application/x-7z-compressed",
        "rar": "application/vnd.rar",
        "iso": "application/x-iso9660-image",
        "sqlite": "application/vnd.sqlite3",
        "parquet": "application/vnd.apache.parquet",
        "h5": "application/x-hdf5",
        "nc": "application/x-netcdf",
        "wasm": "application/wasm",
        # shapes and fonts
        "stl": "model/stl",
        "obj": "model/obj",
        "gltf": "model/gltf+json",
        "glb": "model/gltf-binary",
        "dxf": "image/vnd.dxf",
        "dwg": "image/vnd.dwg",
        "ttf": "font/ttf",
        "otf": "font/otf",
        "woff": "font/woff",
        "woff2": "font/woff2",
    }
)
"""Extension in lower case, without its dot, to content type."""
