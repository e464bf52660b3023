"""What the signals were found to be worth, kept over restarts and shared by the workers of a job."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from recstream.items.codec import RowFormatError
from recstream.ranking.model import RankingModel
from recstream.ranking.online_learning import OnlineLearner
from recstream.stores.base import ModelRow

__all__ = ["WEIGHTS", "StoredWeights", "WeightsState", "mean_of", "stored_weights"]

WEIGHTS: Final = "weights/"
"""What the names of these rows begin with."""
_LAYOUT: Final = 1
"""First byte of every such row."""
_EVERY: Final = 100
"""Examples after which weights are written: so many a worker may lose in a crash."""
_logger = logging.getLogger(__name__)


class StoredWeights(NamedTuple):
    """What one worker wrote."""

    model: RankingModel
    own: float
    """Those of ``blend.examples`` that the worker learned from itself, in the run that wrote this."""
    repeats: float
    """As `OnlineLearner.repeats`."""


def stored_weights(rows: Mapping[str, ModelRow], like: RankingModel) -> dict[str, StoredWeights]:
    """The weights among these rows, by name; those of a model that knew other signals than ``like`` are not.

    Raises:
        RowFormatError: another version of recstream wrote them.
    """
    found = {}
    for name, row in rows.items():
        if not name.startswith(WEIGHTS):
            continue
        if row.state[:1] != bytes((_LAYOUT,)):
            msg = (
                f"the stored model {name!r} has layout {row.state[:1].hex() or 'nothing'}, this version of "
                f"recstream reads {_LAYOUT:02x}: run the version that wrote it, or start to learn anew "
                "(recstream model reset)"
            )
            raise RowFormatError(msg)
        raw, own, repeats = msgspec.msgpack.decode(memoryview(row.state)[1:])
        model = like.twin()
        if model.take(raw):
            found[name] = StoredWeights(model, own, repeats)
        else:
            _logger.warning(
                "the stored model %r knows other signals than this version of recstream: it is not used, and "
                "learning begins anew",
                name,
            )
    return found


def mean_of(stored: Sequence[StoredWeights]) -> StoredWeights:
    """One model of what some workers learned, each weighing as its examples do; of one it is that one.

    Workers begin with the examples that were learned before; those that each added are added up.
    """
    first, *others = stored
    if not others:
        return first
    common = max(one.model.examples - one.own for one in stored)
    weight = sum(one.model.examples for one in stored)
    repeats = sum(one.model.examples * one.repeats for one in stored) / weight if weight else first.repeats
    first.model.average([one.model for one in others])
    first.model.examples = common + sum(one.own for one in stored)
    return StoredWeights(first.model, 0.0, repeats)


class WeightsState:
    """The weights of one worker: what was learned before is taken up, what it learns is written.

    Each worker writes a row of its own. At start all rows are averaged. The others' are averaged in again
    whenever they are written anew, and those that nobody writes any more (there were more workers before) are
    dropped once the average is stored.
    """

    def __init__(self, model: RankingModel, learner: OnlineLearner, *, learns: bool) -> None:
        self._blend = model
        self._learner = learner
        self._learns = learns
        self._began = 0.0
        self._written = (0.0, 0.0)
        self._found: dict[str, int] = {}
        self._outdated: set[str] = set()
        self.name = WEIGHTS + "0"
        """Of this worker's row."""

    def own(self, number: int) -> None:
        """Use the row of that number, in place of the one that was used before."""
        name = f"{WEIGHTS}{number}"
        if name != self.name:
            if self._written[0] > self._began:
                self._outdated.add(self.name)
            self.name = name

    def start(self, rows: Mapping[str, ModelRow]) -> None:
        """Go on from what all workers of the run before have learned."""
        self._found = {name: row.seq for name, row in rows.items() if name.startswith(WEIGHTS)}
        stored = stored_weights(rows, self._blend)
        if not stored:
            return
        mean = mean_of(list(stored.values()))
        self._blend.take(mean.model.to_bytes())
        self._learner.resume(mean.repeats)
        self._began = self._blend.examples
        self._written = (self._blend.examples, mean.repeats)

    def follow(self, rows: Mapping[str, ModelRow]) -> None:
        """Take in what other workers have learned since."""
        if not self._learns:
            return
        others = {name: row for name, row in rows.items() if name != self.name}
        stored = stored_weights(others, self._blend)
        if stored:
            self._blend.average([one.model for one in stored.values()])

    def due(self, *, all_of_it: bool) -> dict[str, bytes]:
        """What is to be written now: nothing, or this worker's row."""
        now = (self._blend.examples, self._learner.repeats)
        learned = now[0] - self._written[0]
        if not self._learns or now == self._written or not (all_of_it or learned >= _EVERY):
            return {}
        self._written = now
        state = [self._blend.to_bytes(), now[0] - self._began, now[1]]
        return {self.name: bytes((_LAYOUT,)) + msgspec.msgpack.encode(state)}

    def outdated(self, rows: Mapping[str, ModelRow]) -> list[str]:
        """Names to drop once this worker's row is written, of the rows there are now.

        That row holds what those held. One that has been written again since is somebody's.
        """
        gone = [name for name, seq in self._found.items() if name in rows and rows[name].seq == seq]
        gone += [name for name in self._outdated if name in rows]
        self._found.clear()
        self._outdated.clear()
        return sorted(name for name in gone if name != self.name)

    @property
    def has_outdated(self) -> bool:
        """Whether `outdated` may name any."""
        return bool(self._found.keys() - {self.name} or self._outdated)
