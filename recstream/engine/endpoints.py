"""The ends of a graph: where its records come from and where its results go."""

from __future__ import annotations

from dataclasses import dataclass

from bytewax.inputs import Source

from recstream.core.source import RawBatch
from recstream.engine.outputs import MessageSink

__all__ = ["Inputs", "Outputs"]


@dataclass(frozen=True)
class Inputs:
    """Where records come from."""

    events: Source[RawBatch]
    items: Source[RawBatch] | None = None


@dataclass(frozen=True)
class Outputs:
    """Where results go: sinks of messages, or of ``(key, message)`` pairs if they are partitioned."""

    lists: MessageSink
    rejects: MessageSink
    sessions: MessageSink | None = None
