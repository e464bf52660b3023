"""Positions of the live job, set to something else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from typing import NamedTuple

from recstream.config import ConfigError, Settings
from recstream.records.bounds import Bound
from recstream.runtime.locks import job_lock
from recstream.runtime.positions import LIVE, ReadInput, has_positions, read_inputs, set_positions

__all__ = ["Move", "set_job_positions"]


class Move(NamedTuple):
    """A partition whose position is set."""

    partition: str
    before: int | None
    after: int | None
    """Offset of the next record to read."""


def set_job_positions(
    settings: Settings, to: Bound, *, names: Collection[str] = (), dry_run: bool = False
) -> list[Move]:
    """Let the job go on elsewhere: at ``to`` in each partition that has a position, or in those it names.

    ``names`` says of which places; without them the earliest is for all inputs, any other bound for the
    events: items are read in full. Partitions without a position begin where settings say.

    Raises:
        StoreBusyError: the job is running.
        ConfigError: a name is none of an input, or a partition has no position.
        ConnectorError: a place gives no answer, or does not hold what is asked for.
        PositionsError: positions cannot be read or written.
    """
    folder = settings.store_dir
    if not has_positions(folder, LIVE):
        return []
    with nullcontext() if dry_run else job_lock(folder, "positions"):
        inputs = read_inputs(settings)
        wanted = dict(_wanted(inputs, to, names))
        changed = {
            one.stream: one.connector.moved(one.address, one.stored, bound)
            for one in inputs
            if one.stored and (bound := wanted.get(one.stream)) is not None
        }
        moves = [
            Move(before.partition, before.position, after.position)
            for one in inputs
            if (new := changed.get(one.stream))
            for before, after in zip(
                one.connector.positions(one.address, one.stored),
                one.connector.positions(one.address, {**one.stored, **new}),
                strict=True,
            )
            if before.partition in new
        ]
        if changed and not dry_run:
            set_positions(folder, changed)
    return moves


def _wanted(inputs: Collection[ReadInput], to: Bound, names: Collection[str]) -> Iterator[tuple[str, Bound]]:
    """Where each stream is to go on; those that are left out stay where they are."""
    known = [one.connector.name_of(one.address) for one in inputs]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError([f"got {', '.join(unknown)}, wanted what the job reads: {', '.join(known)}"])
    if isinstance(to, Mapping):
        left = dict(to)
        for one in inputs:
            own = {name: left.pop(name) for name in list(left) if one.connector.owns(one.address, name)}
            if own:
                yield one.stream, own
        if left:
            raise ConfigError([f"got {', '.join(sorted(left))}, wanted partitions of {', '.join(known)}"])
        return
    for one, name in zip(inputs, known, strict=True):
        if name in names or (not names and (to == "earliest" or one.stream == "events")):
            yield one.stream, to
