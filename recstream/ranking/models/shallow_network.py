"""A linear model of the signals with some hidden units, learned online."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, cast

import msgspec
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from recstream.items.jit import reordered
from recstream.ranking.models.base import RankingModel
from recstream.records.arrays import AnyArray, Matrix

__all__ = ["HIDDEN", "Parameters", "ShallowNetwork", "split_scores"]

HIDDEN: Final = 16
"""Hidden units beside the linear weights. With none the model would be linear (two logs: -5 % NDCG@10)."""
_LINEAR_RATE: Final = 0.3
_HIDDEN_RATE: Final = 0.1
_CAUTION: Final = 1.0
"""What Adagrad's sums start from for linear weights: no first example moves one by more than the rate."""
_HIDDEN_CAUTION: Final = 1e-2
"""What Adagrad's sums start from for all other weights."""
_FADING: Final = 0.9999
"""Factor by which Adagrad's sums forget with each example: plain sums would let a weight move ever less."""
_FULL: Final = 1.001
"""Greatest value of a signal, give or take rounding."""
_SPREAD: Final = 0.3
"""Standard deviation of the hidden units' first weights."""
_SEED: Final = 1
"""Of these weights: all processes begin with the same, so that their models can be averaged."""
_LAYOUT: Final = 1
"""First element of the stored model."""
_MOST: Final = 30.0
"""No weight grows beyond this, whatever is learned. Far less tells lists apart."""

Parameters: TypeAlias = tuple[AnyArray, AnyArray, AnyArray, AnyArray]
"""Linear weights ``(signals,)``, U ``(hidden, signals)``, b and v ``(hidden,)``."""
_BY_SIGNAL: Final = (True, True, False, False)
"""Which of the parameters have a column a signal."""


class ShallowNetwork(RankingModel):
    """The score of an item, of its signals: ``w . x + v . (tanh(U x + b) - tanh(b))``.

    x are the signals of one candidate. It starts linear, with given weights (v is 0), and learns by softmax
    regression over the candidates of one list: the item that the user chose next against all others (Adagrad,
    Duchi et al., JMLR 2011).

    >>> model = ShallowNetwork({"a": 1.0, "b": 0.5})
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]], "f4")
    >>> model.score(x).round(3).tolist()
    [1.0, 0.5]
    >>> for _ in range(50): model.learn(x, 1)
    >>> bool(np.diff(model.score(x))[0] > 0), model.examples
    (True, 50.0)
    >>> bool(np.allclose(model.split(x).sum(axis=1), model.score(x), atol=1e-5))
    True
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        max_weights: Mapping[str, float] | None = None,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__(weights, max_weights=max_weights)
        self.hidden = hidden
        """Number of hidden units."""
        signals = len(self.start)
        random = np.random.Generator(np.random.PCG64(_SEED))
        self.linear = self.start.copy()
        self.inward = random.normal(0.0, _SPREAD, (hidden, signals))
        """U, shape ``(hidden, signals)``; 0 for signals with a greatest weight, which it would get round."""
        self.inward[:, np.isfinite(self.max_weights)] = 0.0
        self.bias = np.zeros(hidden)
        self.outward = np.zeros(hidden)
        """v, shape ``(hidden,)``."""
        self.squares: Parameters = (
            np.full(signals, _CAUTION),
            np.full((hidden, signals), _HIDDEN_CAUTION),
            np.full(hidden, _HIDDEN_CAUTION),
            np.full(hidden, _HIDDEN_CAUTION),
        )
        """Adagrad's sums of squared gradients, of the shapes of `parameters`: the greater, the less a weight
        moves."""

    @override
    def score(self, signals: Matrix) -> npt.NDArray[np.float32]:
        hidden = signals @ self.inward.T.astype(np.float32)
        hidden += self.bias.astype(np.float32)
        np.tanh(hidden, out=hidden)
        scores: npt.NDArray[np.float32] = signals @ self.linear.astype(np.float32)
        scores += hidden @ self.outward.astype(np.float32)
        scores -= np.float32(self.outward @ np.tanh(self.bias))
        return scores

    @property
    def parameters(self) -> Parameters:
        """Linear weights, U, b and v."""
        return self.linear, self.inward, self.bias, self.outward

    @property
    def arrays(self) -> tuple[AnyArray, ...]:
        """All that is learned: `parameters`, and the ``squares`` of each."""
        return (*self.parameters, *self.squares)

    @override
    def split(self, signals: Matrix) -> Matrix:
        parts = np.empty(signals.shape, np.float32)
        split_scores(signals, self.parameters, parts)
        return parts

    @override
    def learn(self, signals: Matrix, chosen: int, *, weight: float = 1.0, is_new: bool = True) -> None:
        if signals.shape[1:] != self.linear.shape:
            msg = f"signals have shape {signals.shape}, wanted {len(self.names)} columns"
            raise ValueError(msg)
        if not 0 <= chosen < len(signals):
            msg = f"chosen is {chosen}, wanted a row of the {len(signals)} candidates"
            raise ValueError(msg)
        if not (np.abs(signals) <= _FULL).all():  # NaN is not either
            return  # a signal of a million would leave its weight where no later example could move it
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
        through[:, np.isfinite(self.max_weights)] = 0.0
        gradients = errors @ x, through, slopes.sum(axis=0), errors @ units
        rates = _LINEAR_RATE, _HIDDEN_RATE, _HIDDEN_RATE, _HIDDEN_RATE
        cautions = _CAUTION, _HIDDEN_CAUTION, _HIDDEN_CAUTION, _HIDDEN_CAUTION
        for weights, squares, gradient, rate, caution in zip(
            self.parameters, self.squares, gradients, rates, cautions, strict=True
        ):
            squares[...] = np.maximum(_FADING * squares, caution) + gradient * gradient
            np.clip(weights + rate * gradient / np.sqrt(squares), -_MOST, _MOST, out=weights)
        np.minimum(linear, self.max_weights, out=linear)

    @override
    def average(self, others: Sequence[RankingModel]) -> None:
        # All start from the same numbers, and are averaged often: so their hidden units mean the same.
        everyone = (self, *cast("Sequence[ShallowNetwork]", others))
        weights = [one.examples + 1.0 for one in everyone]
        for mine, *theirs in zip(*(one.arrays for one in everyone), strict=True):
            mine[...] = np.average([mine, *theirs], axis=0, weights=weights)

    @override
    def to_bytes(self) -> bytes:
        arrays = [array.tobytes() for array in self.arrays]
        return msgspec.msgpack.encode([_LAYOUT, list(self.names), self.hidden, self.examples, arrays])

    @override
    def take(self, raw: bytes) -> bool:
        layout, *stored = msgspec.msgpack.decode(raw)
        if layout != _LAYOUT or stored[1] != self.hidden:
            return False
        names, _, self.examples, arrays = stored
        kept = [name for name in self.names if name in names]
        mine, theirs = ([of.index(name) for name in kept] for of in (list(self.names), names))
        begun = self.untrained().arrays
        for array, start, raw_array, by_signal in zip(
            self.arrays, begun, arrays, _BY_SIGNAL * 2, strict=True
        ):
            taken = np.frombuffer(raw_array)
            if by_signal:
                array[...] = start
                array[..., mine] = taken.reshape(*array.shape[:-1], len(names))[..., theirs]
            else:
                array[...] = taken
        return True

    @override
    def untrained(self) -> ShallowNetwork:
        weights = dict(zip(self.names, self.start.tolist(), strict=True))
        most = dict(zip(self.names, self.max_weights.tolist(), strict=True))
        return ShallowNetwork(weights, max_weights=most, hidden=self.hidden)


@reordered
def split_scores(x: AnyArray, parameters: Parameters, parts: AnyArray) -> None:
    """Write what each signal contributed to each score: ``x`` and ``parts`` have shape ``(n, signals)``.

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
