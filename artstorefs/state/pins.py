"""Which files and directories are to stay in the read cache: `cache-pins.json` in the state
directory, because the cache itself may be thrown away.

    {"pins": [{"file_id": "32 hex digits", "ino": 17}, …]}

`file_id` is what is meant. `ino` says where to look first; it is another one in a rebuilt index.
What cannot be read counts as no pins, and is told once.
"""

import json
import logging
import os
from typing import Final

from artstorefs.core.log_fields import about
from artstorefs.elements.durable import write_file_durably

log = logging.getLogger(__name__)

FILE_NAME: Final = "cache-pins.json"


class Pins:
    """`inos` by file id. Calls are short; `save` waits for the disk."""

    def __init__(self, state_directory: str) -> None:
        self.path = os.path.join(state_directory, FILE_NAME)
        self.inos: dict[bytes, int] = {}
        try:
            with open(self.path, encoding="utf-8") as file:
                for pin in json.load(file)["pins"]:
                    self.inos[bytes.fromhex(pin["file_id"])] = int(pin["ino"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as exc:
            told = ("%s cannot be read, nothing is pinned: %s", self.path, exc)
            log.error(*told, extra=about(exc, path=self.path))

    def save(self) -> None:
        """Keep them, durably. Raises OSError."""
        pins = [{"file_id": key.hex(), "ino": ino} for key, ino in self.inos.items()]
        write_file_durably(self.path, json.dumps({"pins": pins}).encode() + b"\n")
