"""How a run that is split deals out the tests: as pytest-xdist's `worksteal`, where processes that
are done take from others what these would do last, but never a part of `TOGETHER`."""

from typing import Final

from xdist.scheduler.worksteal import MIN_PENDING, WorkStealingScheduling

TOGETHER: Final = ("tests/systemd/",)
"""Folders whose tests share what takes long to make, a booted machine: one process has all."""


def is_together(nodeid: str) -> bool:
    return nodeid.startswith(TOGETHER)


class KeepsTogether(WorkStealingScheduling):
    """Gives that to one process, and hides it from what chooses whom to take from or to give to."""

    def check_schedule(self) -> None:
        collection = self.collection or []
        self._send_together([index for index in self.pending if is_together(collection[index])])
        all_pending = dict(self.node2pending)
        kept = {
            node: [index for index in pending if is_together(collection[index])]
            for node, pending in all_pending.items()
        }
        for node, pending in all_pending.items():
            others = [index for index in pending if index not in kept[node]]
            if len(kept[node]) >= MIN_PENDING and len(others) < MIN_PENDING:
                del self.node2pending[node]  # is busy, and has nothing to give
            else:
                self.node2pending[node] = others
        super().check_schedule()
        for node, pending in all_pending.items():
            visible = self.node2pending.get(node)
            self.node2pending[node] = pending if visible is None else [*kept[node], *visible]

    def _send_together(self, indices: list[int]) -> None:
        running = [node for node in self.nodes if not node.shutting_down]
        if not indices or not running:
            return
        self.pending = [index for index in self.pending if index not in indices]
        self.node2pending[running[0]] += indices
        running[0].send_runtest_some(indices)
