"""A transaction of the index that leaves the nodes in memory as they were if it does not commit."""

from artstorefs.state.database import Transaction
from artstorefs.state.log import Log
from artstorefs.state.node import Node


class NodeTransaction:
    """No generator: each change of the tree comes through here."""

    __slots__ = ("_before", "_log", "_nodes", "_transaction")

    def __init__(self, transaction: Transaction, log: Log, nodes: tuple[Node, ...]) -> None:
        self._transaction = transaction
        self._log = log
        self._nodes = nodes
        self._before = [node.values() for node in nodes]

    def __enter__(self) -> None:
        self._transaction.__enter__()  # nothing has changed yet

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        try:
            self._transaction.__exit__(kind, exc, traceback)
        except BaseException:
            self._take_back()
            raise
        if exc is not None:
            self._take_back()
        else:
            self._log.announce()

    def _take_back(self) -> None:
        for node, values in zip(self._nodes, self._before, strict=True):
            node.restore(values)
        self._log.discard()
