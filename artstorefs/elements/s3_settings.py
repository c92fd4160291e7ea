"""How an S3 element reaches its bucket and uses it, and the limits that S3 sets."""

from dataclasses import dataclass
from typing import Any, Final, Literal

PART_BYTES_MIN: Final = 5 << 20
"""Amazon S3, "Multipart upload limits": the least size of a part but the last."""

PARTS_MAX: Final = 10_000
"""The same: parts of one object."""

KEY_BYTES_MAX: Final = 1024
"""Amazon S3, "Naming objects": UTF-8 bytes of a key, the prefix included."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where a bucket is and how it is used; the meaning of the keys is in the README.

    `prefix` is "" or ends with "/". Sizes in bytes, times in seconds. `attempts` is how often one
    request is made until its failure is the caller's; pauses between them begin at `pause_s`.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: str | None = None
    storage_class: str | None = None
    addressing: Literal["path", "virtual"] = "virtual"
    multipart_threshold: int = 16 << 20
    part_size: int = 8 << 20
    concurrency: int = 4
    verify_tls: bool = True
    ca_bundle: str | None = None
    encryption: str | None = None
    encryption_key: str | None = None
    object_lock: Literal["GOVERNANCE", "COMPLIANCE"] | None = None
    """The mode in which the bucket is told to lock what is retained, if it can."""
    connect_timeout_s: float = 10.0
    """A server that is there answers within one round trip and a few lost packets."""
    read_timeout_s: float = 60.0
    """Completing an upload of many parts takes a server this long at times."""
    attempts: int = 5
    pause_s: float = 0.2
    pause_limit_s: float = 10.0

    @property
    def where(self) -> str:
        """The bucket, for messages."""
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"bucket {self.bucket}{at}"

    @property
    def new_object(self) -> dict[str, Any]:
        """What each new object is to be, as arguments of a request."""
        arguments = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.encryption,
            "SSEKMSKeyId": self.encryption_key,
        }
        return {name: value for name, value in arguments.items() if value is not None}
