"""How much each signal is worth on this stream: learned online from what users chose next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from recstream.items.jit import reordered
from recstream.records.arrays import AnyArray, Matrix

__all__ = ["HIDDEN", "Parameters", "RankingModel", "split_scores"]

HIDDEN: Final = 16
"""Hidden units beside the linear weights: 0 would be a linear blend (two logs: -5 % NDCG@10 without them)."""
_LINEAR_RATE: Final = 0.3
_HIDDEN_RATE: Final = 0.1
_CAUTION: Final = 1.0
"""What Adagrad starts from: the first examples move a weight by no more than the rate."""
_HIDDEN_CAUTION: Final = 1e-2
_FADING: Final = 0.9999
"""By how much Adagrad forgets with each example: with plain sums, after years it would follow nothing."""
_FULL: Final = 1.001
"""Greatest signal there is, give or take rounding."""
_SPREAD: Final = 0.3
_SEED: Final = 1
_LAYOUT: Final = 1
_MOST: Final = 30.0
"""No weight grows beyond this, whatever comes: signals are at most 1, and far less tells lists apart."""

Parameters: TypeAlias = tuple[AnyArray, AnyArray, AnyArray, AnyArray]
"""Linear weights ``(signals,)``, U ``(hidden, signals)``, b and v ``(hidden,)``."""


class RankingModel:
    """The score of an item, of its signals: ``w . x + v . (tanh(U x + b) - tanh(b))``.

    x are the signals of one candidate, each in [0, 1]. It starts as the linear blend of given weights (v is
    0) and learns by softmax regression over the candidates of one list: the item that the user chose next
    against all others (Adagrad, Duchi et al., JMLR 2011). A candidate without any signal scores 0, so the
    score can be split exactly among the signals (`split_scores`).

    >>> model = RankingModel({"a": 1.0, "b": 0.5})
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]], "f4")
    >>> model.score(x).round(3).tolist()
    [1.0, 0.5]
    >>> for _ in range(50): model.learn(x, 1)
    >>> bool(np.diff(model.score(x))[0] > 0), model.examples
    (True, 50.0)
    >>> parts = np.empty(x.shape, "f4")
    >>> split_scores(x, model.parameters, parts)
    >>> bool(np.allclose(parts.sum(axis=1), model.score(x), atol=1e-5))
    True
    """

    def __init__(
        self, start: Mapping[str, float], *, ceilings: Mapping[str, float] | None = None, hidden: int = HIDDEN
    ) -> None:
        self.names: tuple[str, ...] = tuple(start)
        self.start = np.array(list(start.values()), np.float64)
        ceiling = np.array([(ceilings or {}).get(name, math.inf) for name in start])
        self.ceilings = np.maximum(ceiling, self.start)
        """Greatest linear weight a signal may have: what speaks against an item must not speak for it."""
        self.hidden = hidden
        self.reset()

    def reset(self) -> None:
        """Forget all that was learned."""
        signals = len(self.start)
        random = np.random.Generator(np.random.PCG64(_SEED))
        self.examples = 0.0
        """Lists learned from."""
        self.linear = self.start.copy()
        self.inward = random.normal(0.0, _SPREAD, (self.hidden, signals))
        """U, shape ``(hidden, signals)``; 0 for signals with a ceiling, which would get round it."""
        self.inward[:, np.isfinite(self.ceilings)] = 0.0
        self.bias = np.zeros(self.hidden)
        self.outward = np.zeros(self.hidden)
        """v, shape ``(hidden,)``."""
        self.squares: Parameters = (
            np.full(signals, _CAUTION),
            np.full((self.hidden, signals), _HIDDEN_CAUTION),
            np.full(self.hidden, _HIDDEN_CAUTION),
            np.full(self.hidden, _HIDDEN_CAUTION),
        )
        """Sums of squared gradients, of the shapes of `parameters`: the more a weight was taught, the less it
        moves."""

    def score(self, signals: Matrix) -> npt.NDArray[np.float32]:
        """Scores of candidates whose signals are the rows, float32 of shape ``(candidates,)``."""
        hidden = signals @ self.inward.T.astype(np.float32)
        hidden += self.bias.astype(np.float32)
        np.tanh(hidden, out=hidden)
        scores: npt.NDArray[np.float32] = signals @ self.linear.astype(np.float32)
        scores += hidden @ self.outward.astype(np.float32)
        scores -= np.float32(self.outward @ np.tanh(self.bias))
        return scores

    @property
    def parameters(self) -> Parameters:
        """Linear weights, U, b and v, as the compiled loops want them."""
        return self.linear, self.inward, self.bias, self.outward

    @property
    def arrays(self) -> tuple[AnyArray, ...]:
        """All that is learned: `parameters`, and the ``squares`` of each."""
        return (*self.parameters, *self.squares)

    def learn(self, signals: Matrix, chosen: int, *, weight: float = 1.0, is_new: bool = True) -> None:
        """Learn from one list: its candidates' signals, and which of them the user chose.

        ``weight`` (1: a usual example) scales the step's gradient; one that is not new is not counted again.
        Nothing is learned from signals that are not numbers from 0 to 1: one of a million would leave its
        weight where no later example could move it.
        """
        if signals.shape[1:] != self.linear.shape:
            msg = f"signals have shape {signals.shape}, wanted {len(self.names)} columns"
            raise ValueError(msg)
        if not 0 <= chosen < len(signals):
            msg = f"chosen is {chosen}, wanted a row of the {len(signals)} candidates"
            raise ValueError(msg)
        if not (np.abs(signals) <= _FULL).all():  # NaN is not either
            return
        self._learn(signals.astype(np.float64), chosen, weight)
        self.examples += is_new

    def _learn(self, x: AnyArray, chosen: int, weight: float) -> None:
        """One step of Adagrad up the gradient of the log-likelihood of the choice."""
        linear, inward, bias, outward = self.parameters
        units = np.tanh(x @ inward.T + bias)
        errors = x @ linear + units @ outward
        np.exp(errors - errors.max(), out=errors)
        errors *= -weight / errors.sum()
        errors[chosen] += weight
        slopes = errors[:, None] * (1.0 - units * units) * outward
        through = slopes.T @ x
        through[:, np.isfinite(self.ceilings)] = 0.0
        gradients = errors @ x, through, slopes.sum(axis=0), errors @ units
        rates = _LINEAR_RATE, _HIDDEN_RATE, _HIDDEN_RATE, _HIDDEN_RATE
        cautions = _CAUTION, _HIDDEN_CAUTION, _HIDDEN_CAUTION, _HIDDEN_CAUTION
        for weights, squares, gradient, rate, caution in zip(
            self.parameters, self.squares, gradients, rates, cautions, strict=True
        ):
            squares[...] = np.maximum(_FADING * squares, caution) + gradient * gradient
            np.clip(weights + rate * gradient / np.sqrt(squares), -_MOST, _MOST, out=weights)
        np.minimum(linear, self.ceilings, out=linear)

    @property
    def effect(self) -> dict[str, float]:
        """What each signal is worth now: the score of an item that has it alone, and in full."""
        alone = self.score(np.eye(len(self.names), dtype=np.float32))
        return dict(zip(self.names, alone.astype(float).tolist(), strict=True))

    def average(self, others: Sequence[RankingModel]) -> None:
        """Take the mean of this model and others of the same stream, each weighing as its examples do.

        All start from the same numbers, and are averaged often: so their hidden units mean the same.
        """
        everyone = (self, *others)
        weights = [one.examples + 1.0 for one in everyone]
        for mine, *theirs in zip(*(one.arrays for one in everyone), strict=True):
            mine[...] = np.average([mine, *theirs], axis=0, weights=weights)

    def to_bytes(self) -> bytes:
        """As it is stored."""
        arrays = [array.tobytes() for array in self.arrays]
        return msgspec.msgpack.encode([_LAYOUT, list(self.names), self.hidden, self.examples, arrays])

    def take(self, raw: bytes) -> bool:
        """Go on from what `to_bytes` wrote; False (and nothing is taken): it knew other signals."""
        layout, *known = msgspec.msgpack.decode(raw)
        if layout != _LAYOUT or known[:2] != [list(self.names), self.hidden]:
            return False
        _, _, examples, arrays = known
        for mine, stored in zip(self.arrays, arrays, strict=True):
            mine[...] = np.frombuffer(stored).reshape(mine.shape)
        self.examples = examples
        return True

    def twin(self) -> RankingModel:
        """A model of the same signals that has learned nothing."""
        weights = dict(zip(self.names, self.start.tolist(), strict=True))
        ceilings = dict(zip(self.names, self.ceilings.tolist(), strict=True))
        return RankingModel(weights, ceilings=ceilings, hidden=self.hidden)


@reordered
def split_scores(x: AnyArray, parameters: Parameters, parts: AnyArray) -> None:
    """Write down what each signal contributed to each score: ``x`` and ``parts`` have shape ``(n, signals)``.

    A row of ``parts`` adds up to its score. Integrated gradients (Sundararajan et al., ICML 2017) along the
    straight line from no signals, which one hidden layer gives in closed form: the mean slope of tanh between
    b and z + b is ``(tanh(z + b) - tanh(b)) / z``.
    """
    linear, inward, bias, outward = parameters
    at_rest = np.tanh(bias)
    slopes = np.empty((len(x), len(bias)))
    for k in range(len(x)):
        for h in range(len(bias)):
            z = 0.0
            for s in range(x.shape[1]):
                z += inward[h, s] * x[k, s]
            slopes[k, h] = z
    for k in range(len(x)):
        for h in range(len(bias)):
            z = slopes[k, h]
            slope = (math.tanh(z + bias[h]) - at_rest[h]) / z if abs(z) > 1e-6 else 1.0 - at_rest[h] ** 2
            slopes[k, h] = outward[h] * slope
    for k in range(len(x)):
        for s in range(x.shape[1]):
            worth = linear[s]
            for h in range(len(bias)):
                worth += slopes[k, h] * inward[h, s]
            parts[k, s] = worth * x[k, s]
