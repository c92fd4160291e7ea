"""Puts a file on an S3 element, for a test that kills it: SETTINGS (JSON) KEY FILE [barrier]."""

import json
import os
import sys

from artstorefs.elements.s3 import S3Element
from artstorefs.elements.s3_settings import S3Settings

if __name__ == "__main__":
    settings, key, path = sys.argv[1:4]
    element = S3Element("bucket1", S3Settings(**json.loads(settings)))
    element.put(key, path, size_bytes=os.stat(path).st_size)
    print("staged", flush=True)
    sys.stdin.read()  # until it is killed
