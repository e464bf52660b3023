"""Where jobs keep the positions of their sources: a folder for each flow, log, part of it, and output."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.connectors.base import Connector, PartitionPosition
from recstream.runtime.bytewax_internals import (
    committed_states,
    has_recovery_store,
    make_recovery_store,
    recovery_store_error,
    set_states,
    stored_keys,
    stored_states,
)

__all__ = [
    "LIVE",
    "PositionsError",
    "ReadInput",
    "ReplayPlace",
    "all_positions",
    "committed_positions",
    "compared_positions",
    "has_positions",
    "positions_dir",
    "read_identities",
    "read_inputs",
    "replay_place",
    "set_positions",
]

LIVE: Final = "recommend"
"""Flow of the live job, whose positions are in the folder of this name."""
_REPLAY: Final = "backfill"
_SOURCES: Final = ("events", "items")
"""Steps of the live job that are sources."""
_DEAD_LETTERS: Final = "dead-letter"

_Keys = Mapping[str, set[str]]
"""Keys that have a stored state, by step of the flow."""


class PositionsError(Exception):
    """The positions in a folder cannot be read or written; says why, and how to mend it."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(folder, why)
        self._folder, self._why = folder, why

    def __str__(self) -> str:
        is_full = "full" in self._why or "No space left" in self._why
        mend = "free disk space" if is_full else "check the folder's permissions and its disk"
        return (
            f"the positions in {self._folder} cannot be kept: {self._why}; {mend}, then start again: it goes "
            "on from the last committed epoch"
        )


class ReadInput(NamedTuple):
    """What the live job reads as one of its streams."""

    stream: str
    address: str
    connector: Connector
    stored: Mapping[str, Any]
    """Positions by partition, in the form of the connector."""


class ReplayPlace(NamedTuple):
    """What is a replay's own in a store that others were replayed into, too."""

    positions: str
    """Its folder below the store's ``positions``."""
    dead_letter: str
    """Where its rejects go."""


def positions_dir(store: Path, name: str) -> Path:
    """Folder of a flow's positions; made when it is not there.

    Raises:
        PositionsError: it cannot be made.
    """
    folder = store / "positions" / name
    try:
        make_recovery_store(folder)
    except (OSError, RuntimeError) as err:
        raise PositionsError(folder, recovery_store_error(err) or str(err)) from err
    return folder


def has_positions(store: Path, name: str) -> bool:
    """Whether a flow has begun on the store. Makes nothing."""
    return has_recovery_store(store / "positions" / name)


def read_identities(folder: Path, identity_of: Callable[[Any], str]) -> set[str]:
    """Identities of the partitions that the live job has a position in (``"events/3@e4ff1bf9"``)."""
    return {
        identity_of(stored.state)
        for stored in stored_states(folder)
        if stored.step.rpartition(".")[2] in _SOURCES and stored.state is not None
    }


def committed_positions(store: Path, stream: str) -> dict[str, Any]:
    """Positions by partition from which the live job would go on reading a stream (events, items).

    The job may be running.

    Raises:
        PositionsError: they cannot be read.
    """
    folder = store / "positions" / LIVE
    try:
        states = committed_states(folder)
    except sqlite3.Error as err:
        raise PositionsError(folder, str(err)) from err
    return {key: state for (step, key), state in states.items() if step == f"{LIVE}.{stream}"}


def read_inputs(settings: Settings) -> list[ReadInput]:
    """The inputs of the live job, with the positions that it has committed; it may be running.

    Raises:
        PositionsError: they cannot be read.
    """
    live = settings.live
    return [
        ReadInput(
            stream,
            address,
            connector_for(address, settings.options_of),
            committed_positions(settings.store_dir, stream),
        )
        for stream, address in zip(_SOURCES, (live.events, live.items), strict=True)
    ]


def compared_positions(settings: Settings, *, in_full: bool = True) -> list[PartitionPosition]:
    """Each partition of the inputs, or of which a position is stored, with what it holds; changes nothing.

    ``in_full`` as for `Connector.positions`. The job may be running.

    Raises:
        ConnectorError: a place gives no answer.
        PositionsError: positions cannot be read.
    """
    return [
        found
        for one in read_inputs(settings)
        for found in one.connector.positions(one.address, one.stored, in_full=in_full)
    ]


def set_positions(store: Path, positions: Mapping[str, Mapping[str, Any]]) -> None:
    """Let the live job go on from other positions, given by stream and partition; it must not run.

    Raises:
        KeyError: a partition has no position.
        PositionsError: they cannot be written.
    """
    folder = store / "positions" / LIVE
    states = {
        (f"{LIVE}.{stream}", partition): state
        for stream, of_stream in positions.items()
        for partition, state in of_stream.items()
    }
    try:
        set_states(folder, states)
    except sqlite3.Error as err:
        raise PositionsError(folder, str(err)) from err


def all_positions(store: Path) -> list[Any]:
    """All positions in event logs and items that the live job and replays into this store have stored."""
    return [
        stored.state
        for folder in sorted((store / "positions").glob("*"))
        for stored in stored_states(folder)
        if stored.step.rpartition(".")[2] in _SOURCES and stored.state is not None
    ]


def replay_place(settings: Settings) -> ReplayPlace:
    """Where a replay goes on from: the same command finds its own place, and no other does.

    Going on from another part of a topic, or from a replay that ended at a time (which passed younger
    records without taking them), would leave out what was asked for; and bytewax refuses the positions of a
    log or of a file of output that a run does not have. A file of rejects is begun anew by who has no
    position in it: so it is not shared either, unless the settings name it.
    """
    chosen = settings.backfill
    folder = settings.store_dir / "positions"
    name = f"{_REPLAY}-{chosen.refresh}"
    connector = connector_for(chosen.events, settings.options_of)
    own = [_position_name(where, settings) for where in (chosen.events, chosen.out, chosen.dead_letter)]
    bounds = _bounds(settings) if connector.has_bounds else []
    if bounds or not _is_own(stored_keys(folder / name), connector, chosen.events, *own[1:]):
        name = f"{name}-{blake2b(chr(10).join([*own, *bounds]).encode(), digest_size=6).hexdigest()}"
    return ReplayPlace(name, chosen.dead_letter or str(settings.store_dir / _dead_letters(folder, name)))


def _is_own(keys: _Keys, connector: Connector, events: str, out: str, dead_letter: str) -> bool:
    """Whether all that is stored is of this log and these files."""
    return (
        all(connector.owns(events, key) for key in _of(keys, "events"))
        and _of(keys, "lists") <= {out}
        and (not dead_letter or _of(keys, "dead_letter") <= {dead_letter})
        and (bool(dead_letter) or all(key.startswith(_DEAD_LETTERS) for key in _of(keys, "dead_letter")))
    )


def _dead_letters(folder: Path, name: str) -> str:
    """A file of rejects that no other replay has a position in."""
    for key in _of(stored_keys(folder / name), "dead_letter"):
        return key
    plain = f"{_DEAD_LETTERS}.jsonl"
    others = [other for other in folder.glob(f"{_REPLAY}-*") if other.name != name]
    if any(plain in _of(stored_keys(other), "dead_letter") for other in others):
        return f"{_DEAD_LETTERS}-{name.removeprefix(f'{_REPLAY}-')}.jsonl"
    return plain


def _of(keys: _Keys, step: str) -> set[str]:
    return keys.get(f"{_REPLAY}.{step}", set())


def _position_name(address: str, settings: Settings) -> str:
    return connector_for(address, settings.options_of).position_name(address) if address else ""


def _bounds(settings: Settings) -> list[str]:
    """The part of a log that is read, where it is not all of it up to an offset."""
    bounds = [f"from {settings.start_text}"] if settings.start_text != "earliest" else []
    if settings.backfill.stop.startswith("ts="):
        bounds.append(f"until {settings.backfill.stop}")
    return bounds
