"""A sink for lists that nobody wants, as in a replay that only rebuilds the state."""

from __future__ import annotations

from bytewax.outputs import DynamicSink, StatelessSinkPartition
from typing_extensions import override

from recstream.records.transport import Message

__all__ = ["NullSink"]


class _Nowhere(StatelessSinkPartition[Message]):
    @override
    def write_batch(self, items: list[Message]) -> None:
        """Drop them."""


class NullSink(DynamicSink[Message]):
    """Takes messages and drops them."""

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Nowhere:
        return _Nowhere()
