"""POSIX semantics: the tree, the content of open files, extended attributes, access lists.

Works on `artstorefs.state` and `artstorefs.elements`; knows nothing of FUSE, so that all behaviour
can be tested without a mount. What is promised and refused stands in `artstorefs/SEMANTICS.md`.
"""
