"""What a ranking model is: the score of an item, of its signals, learned from what users choose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Matrix

__all__ = ["RankingModel"]


class RankingModel(ABC):
    """Scores the candidates of a list, explains the scores, and learns which candidate the user chose next.

    Every model passes `recstream.testing.ranking_models`. Signals are numbers from 0 to 1, float32 of
    shape ``(candidates, signals)``, columns as in ``names``. A candidate whose signals are all 0 scores 0.
    """

    def __init__(
        self, weights: Mapping[str, float], *, max_weights: Mapping[str, float] | None = None
    ) -> None:
        """Begin with these weights by signal; ``max_weights`` are the greatest that may be learned."""
        self.names: tuple[str, ...] = tuple(weights)
        self.start = np.array(list(weights.values()), np.float64)
        most = np.array([(max_weights or {}).get(name, math.inf) for name in weights])
        self.max_weights = np.maximum(most, self.start)
        """Greatest weight of each signal: what speaks against an item must not come to speak for it."""
        self.examples = 0.0
        """Lists learned from."""

    @abstractmethod
    def score(self, signals: Matrix) -> npt.NDArray[np.float32]:
        """Scores of candidates, float32 of shape ``(candidates,)``."""

    @abstractmethod
    def split(self, signals: Matrix) -> Matrix:
        """What each signal contributed to each score, ``(candidates, signals)``: rows add up to the scores.

        A signal that is 0 contributes 0.
        """

    @abstractmethod
    def learn(self, signals: Matrix, chosen: int, *, weight: float = 1.0, is_new: bool = True) -> None:
        """Learn from one list: its candidates' signals, and which of them the user chose.

        ``weight`` scales the step: 1 is a usual example. An example that is not new is not counted again.
        Nothing is learned from signals that are not numbers from 0 to 1.

        Raises:
            ValueError: there is no such candidate, or the signals are others than the model's.
        """

    @abstractmethod
    def average(self, others: Sequence[RankingModel]) -> None:
        """Become the mean of this model and others of the same stream, each weighing as its examples do.

        The others are of the same class and signals.
        """

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The model as it is stored: a msgpack array whose first element tells it from other models'."""

    @abstractmethod
    def take(self, raw: bytes) -> bool:
        """Go on from what `to_bytes` wrote; False, and nothing is changed: another model wrote it.

        What was learned of signals by the same names is kept. Signals that are new begin as in a new model,
        those that are gone are dropped.
        """

    @abstractmethod
    def untrained(self) -> RankingModel:
        """A model of the same class and signals that has learned nothing."""

    @property
    def feature_effects(self) -> dict[str, float]:
        """The score of an item that has one signal alone, and in full: what the signal is worth now."""
        alone = self.score(np.eye(len(self.names), dtype=np.float32))
        return dict(zip(self.names, alone.astype(float).tolist(), strict=True))
