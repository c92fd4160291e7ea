"""Whether what lies in a cold storage class may be restored: asked with nothing restored.

RestoreObject of a key that nothing is under. Who may restore is told that nothing is there, who may
not that access is denied, which is looked at first (Amazon S3 API reference, RestoreObject). A
server that has no cold classes says that it does not know the request, or that nothing is there.
"""

from dataclasses import replace
from typing import Final

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble
from artstorefs.elements.s3_opening import BRIEFLY, settings_of

NO_OBJECT: Final = ".artstorefs/no-such-object"


def why_no_restore(configuration: ElementConfiguration) -> str | None:
    """What the server has against it, in one line; None: nothing. Blocks for some seconds at most;
    for an element in a bucket."""
    settings = replace(settings_of(configuration), **BRIEFLY)
    connection = S3Connection(settings)
    try:
        connection.run(
            lambda client: client.restore_object(
                Bucket=settings.bucket,
                Key=settings.prefix + NO_OBJECT,
                RestoreRequest={
                    "Days": 1,
                    "GlacierJobParameters": {"Tier": configuration.restore_tier},
                },
            )
        )
    except S3Trouble as exc:
        return None if exc.trouble is Trouble.ABSENT else exc.reason
    finally:
        connection.close()
    return None
