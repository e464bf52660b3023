"""Where a replay keeps its positions: a folder for each log, part of it, and files that it writes."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from recstream.config import Settings

__all__ = ["LIVE", "Place", "kept_identities", "kept_parts", "replay_place"]

LIVE: Final = "recommend"
"""Flow of the live job, whose positions are in the folder of this name."""
_FLOW: Final = "backfill"
_KAFKA: Final = "kafka:"
_SOURCES: Final = ("events", "items")
"""Steps of the live job that read topics."""
_LETTERS: Final = "dead-letter"

Kept = Mapping[str, set[str]]
"""Keys of the state that is kept, by step of the flow."""


class Place(NamedTuple):
    """What is a replay's own in a store that others were replayed into, too."""

    positions: str
    """Its folder below the store's ``positions``."""
    dead_letter: str
    """Where its rejects go."""


def replay_place(settings: Settings) -> Place:
    """Where a replay goes on from: the same command finds its own place, and no other does.

    Going on from another part of a topic, or from a replay that ended at a time (which passed younger
    records without taking them), would leave out what was asked for; and bytewax refuses the positions of a
    log or of a file of output that a run does not have. A file of rejects is begun anew by who has no
    position in it: so it is not shared either, unless the settings name it.
    """
    chosen = settings.backfill
    folder = settings.store_dir / "positions"
    name = f"{_FLOW}-{chosen.refresh}"
    own = [_part(where) for where in (chosen.events, chosen.out, chosen.dead_letter)]
    bounds = _bounds(settings)
    if bounds or not _is_own(kept_parts(folder / name), *own):
        name = f"{name}-{blake2b(chr(10).join([*own, *bounds]).encode(), digest_size=6).hexdigest()}"
    letters = chosen.dead_letter or str(settings.store_dir / _letters(folder, name))
    return Place(name, letters)


def kept_parts(folder: Path) -> dict[str, set[str]]:
    """Keys of the state kept in a folder, by step (``"backfill.events"``); none when it is not there."""
    kept: dict[str, set[str]] = {}
    for path in sorted(folder.glob("part-*.sqlite3")):
        with closing(sqlite3.connect(path)) as database:
            # as bytewax 0.21.1 writes it, which is pinned
            for step, key in database.execute("SELECT DISTINCT step_id, state_key FROM snaps"):
                kept.setdefault(step, set()).add(key)
    return kept


def kept_identities(folder: Path) -> set[str]:
    """Identities of the Kafka partitions that have a position in a folder (``"events/3@e4ff1bf9"``)."""
    kept = set()
    for path in sorted(folder.glob("part-*.sqlite3")):
        with closing(sqlite3.connect(path)) as database:
            for step, pickled in database.execute("SELECT step_id, ser_change FROM snaps"):
                if step.rpartition(".")[2] in _SOURCES and pickled is not None:
                    kept.add(pickle.loads(pickled)["identity"])  # noqa: S301 - our own bytes
    return kept


def _is_own(kept: Kept, events: str, out: str, dead_letter: str) -> bool:
    """Whether all that is kept is of this log and these files."""
    topic = events.removeprefix(_KAFKA) if events.startswith(_KAFKA) else None
    return (
        all(
            (key if topic is None else key.rpartition("/")[0]) == (topic or events)
            for key in _of(kept, "events")
        )
        and _of(kept, "lists") <= {out}
        and (not dead_letter or _of(kept, "dead_letter") <= {dead_letter})
        and (bool(dead_letter) or all(key.startswith(_LETTERS) for key in _of(kept, "dead_letter")))
    )


def _letters(folder: Path, name: str) -> str:
    """A file of rejects that no other replay has a position in."""
    for key in _of(kept_parts(folder / name), "dead_letter"):
        return key
    plain = f"{_LETTERS}.jsonl"
    others = [other for other in folder.glob(f"{_FLOW}-*") if other.name != name]
    if any(plain in _of(kept_parts(other), "dead_letter") for other in others):
        return f"{_LETTERS}-{name.removeprefix(f'{_FLOW}-')}.jsonl"
    return plain


def _of(kept: Kept, step: str) -> set[str]:
    return kept.get(f"{_FLOW}.{step}", set())


def _part(where: str) -> str:
    """What a log or a file of output is called in what is kept: a file by its name alone."""
    return where if not where or where.startswith(_KAFKA) else Path(where).name


def _bounds(settings: Settings) -> list[str]:
    """The part of a topic, where it is not all of it up to an offset."""
    if not settings.backfill.events.startswith(_KAFKA):
        return []
    bounds = [f"from {settings.kafka.start}"] if settings.kafka.start != "earliest" else []
    if settings.backfill.stop.startswith("ts="):
        bounds.append(f"until {settings.backfill.stop}")
    return bounds
