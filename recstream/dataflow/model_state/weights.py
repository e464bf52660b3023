"""The ranking model of a job: kept over restarts, shared by its workers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from recstream.items.codec import RowFormatError
from recstream.ranking.models.base import RankingModel
from recstream.ranking.online_learning import OnlineLearner
from recstream.stores.base import ModelRow

__all__ = ["WEIGHTS", "StoredWeights", "WeightsState", "mean_of", "stored_weights"]

WEIGHTS: Final = "weights/"
"""What the names of these rows begin with."""
_LAYOUT: Final = 1
"""First byte of every such row."""
_EVERY: Final = 100
"""Examples after which the model is written: a crash may lose so many of a worker's."""
_logger = logging.getLogger(__name__)


class StoredWeights(NamedTuple):
    """The model as one worker wrote it."""

    model: RankingModel
    own: float
    """How many of ``model.examples`` the worker learned from itself, in the run that wrote this."""
    repeats: float
    """See `OnlineLearner.repeats`."""


def stored_weights(rows: Mapping[str, ModelRow], like: RankingModel) -> dict[str, StoredWeights]:
    """The models among these rows, by the row's name, as models of the class and the signals of ``like``.

    What was learned of signals that ``like`` lacks is left out, and signals that a stored model lacks begin
    as in a new one. Rows of another class of model are left out with a warning.

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
        model = like.untrained()
        if model.take(raw):
            found[name] = StoredWeights(model, own, repeats)
        else:
            _logger.warning(
                "the stored model %r was written by another ranking model than %s: it is not used, and "
                "learning begins anew",
                name,
                type(like).__name__,
            )
    return found


def mean_of(stored: Sequence[StoredWeights]) -> StoredWeights:
    """One model of those of some workers, each weighing as its examples do.

    All workers begin with the examples of the run before. What each one added is added up.
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
    """The model of one worker: taken up at start, written as it learns.

    Each worker writes a row of its own. At start all rows are averaged. Rows of other workers are averaged in
    again whenever they are written anew. Rows that nobody writes any more, because there were more workers
    before, are dropped once the average is stored.
    """

    def __init__(self, model: RankingModel, learner: OnlineLearner, *, learns: bool) -> None:
        self._model = model
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
        stored = stored_weights(rows, self._model)
        if not stored:
            return
        mean = mean_of(list(stored.values()))
        self._model.take(mean.model.to_bytes())
        self._learner.resume(mean.repeats)
        self._began = self._model.examples
        self._written = (self._model.examples, mean.repeats)

    def follow(self, rows: Mapping[str, ModelRow]) -> None:
        """Take in what other workers have learned since."""
        if not self._learns:
            return
        others = {name: row for name, row in rows.items() if name != self.name}
        stored = stored_weights(others, self._model)
        if stored:
            self._model.average([one.model for one in stored.values()])

    def due(self, *, all_of_it: bool) -> dict[str, bytes]:
        """What is to be written now: nothing, or this worker's row."""
        now = (self._model.examples, self._learner.repeats)
        learned = now[0] - self._written[0]
        if not self._learns or now == self._written or not (all_of_it or learned >= _EVERY):
            return {}
        self._written = now
        state = [self._model.to_bytes(), now[0] - self._began, now[1]]
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
