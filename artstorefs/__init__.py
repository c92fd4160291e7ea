"""ArtStoreFS, the library: everything about an archive except processes and FUSE.

The folders import one way only, each only those below it in this list:

    recovery      what the start does with a log that was cut off, scanning of elements
    transfer      what carries objects between the state directory and the elements
    filesystem    POSIX semantics: the tree, content of open files, extended attributes
    state         what lies in the state directory: index, log, spool, cache
    elements      local and memory storage elements, durable local writes
    core          attr.json and node records, modes, naming, configuration, errors: no I/O
"""

__version__ = "0.1.0"
