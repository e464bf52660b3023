"""The layout of stored states: a first byte that says who can read them."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["RowFormatError"]

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


class RowFormatError(Exception):
    """A stored state was written by another version of recstream."""


def payload(state: bytes, what: str, layouts: tuple[int, ...]) -> tuple[int, Any]:
    if not state or state[0] not in layouts:
        got = state[0] if state else "nothing"
        msg = (
            f"the stored state of {what} has layout {got}, this version of recstream reads "
            f"{' and '.join(map(str, layouts))}: run the version that wrote the store, or replay the log "
            "into a new one (recstream backfill)"
        )
        raise RowFormatError(msg)
    return state[0], decode(memoryview(state)[1:])
