"""Contract suite of the ranking models: subclass it with ``make()``, and pytest runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from recstream.ranking.models.base import RankingModel
from recstream.records.arrays import Matrix

__all__ = ["RankingModelContract"]

_WEIGHTS = {"a": 1.0, "b": -0.5, "c": 0.0, "d": 2.0}
_MAX_WEIGHTS = {"b": -0.1}


def _lists(seed: int, lists: int, signals: int) -> list[Matrix]:
    """Signals of the candidates of some lists; most candidates lack some signal."""
    random = np.random.default_rng(seed)
    shape = (lists, 12, signals)
    found = random.random(shape) * (random.random(shape) < 0.6)
    return list(found.astype(np.float32))


def _teach(model: RankingModel, seed: int = 0, lists: int = 60) -> RankingModel:
    random = np.random.default_rng(seed)
    for rows in _lists(seed, lists, len(model.names)):
        model.learn(rows, int(random.integers(len(rows))))
    return model


class RankingModelContract(ABC):
    """Every :class:`recstream.ranking.models.base.RankingModel` passes these."""

    @abstractmethod
    def make(self, weights: Mapping[str, float], max_weights: Mapping[str, float]) -> RankingModel:
        """A new model of these signals."""

    def _taught(self, seed: int = 0, **more: float) -> RankingModel:
        return _teach(self.make({**_WEIGHTS, **more}, _MAX_WEIGHTS), seed)

    def test_a_new_model_adds_up_the_weights_it_was_given(self) -> None:
        """Before any example."""
        model = self.make(_WEIGHTS, _MAX_WEIGHTS)
        (rows,) = _lists(1, 1, 4)
        np.testing.assert_allclose(model.score(rows), rows @ np.array(list(_WEIGHTS.values())), atol=1e-5)
        assert model.feature_effects == pytest.approx(_WEIGHTS)
        assert (model.names, model.examples) == (tuple(_WEIGHTS), 0.0)

    @pytest.mark.parametrize("seed", range(5))
    def test_parts_add_up_to_the_score_and_a_signal_that_is_0_contributes_0(self, seed: int) -> None:
        """One candidate or many."""
        model = self._taught(seed)
        (rows,) = _lists(seed + 100, 1, 4)
        for some in (rows, rows[:1], rows[:0]):
            parts, scores = model.split(some), model.score(some)
            assert (parts.shape, scores.shape) == (some.shape, some.shape[:1])
            assert {str(parts.dtype), str(scores.dtype)} == {"float32"}
            np.testing.assert_allclose(parts.sum(axis=1), scores, atol=1e-4)
            assert not parts[some == 0.0].any()
        assert model.score(np.zeros((1, 4), np.float32))[0] == pytest.approx(0.0, abs=1e-6)

    def test_an_example_lifts_the_chosen_candidate(self) -> None:
        """Over the mean of all others."""
        model = self._taught()
        (rows,) = _lists(7, 1, 4)
        before = model.score(rows)
        for _ in range(20):
            model.learn(rows, 3)
        after = model.score(rows)
        assert after[3] - after.mean() > before[3] - before.mean()

    def test_an_example_that_is_not_new_is_not_counted(self) -> None:
        """One that is new is."""
        model = self.make(_WEIGHTS, _MAX_WEIGHTS)
        (rows,) = _lists(1, 1, 4)
        model.learn(rows, 0)
        model.learn(rows, 0, is_new=False)
        assert model.examples == 1.0

    def test_what_speaks_against_an_item_never_comes_to_speak_for_it(self) -> None:
        """Whatever is taught."""
        model = self.make(_WEIGHTS, _MAX_WEIGHTS)
        for rows in _lists(2, 200, 4):
            model.learn(rows, int(rows[:, 1].argmax()), weight=4.0)
        assert model.feature_effects["b"] <= -0.1 + 1e-6

    def test_values_that_are_no_shares_teach_nothing(self) -> None:
        """Not a number, infinite, or huge."""
        model = self._taught()
        before = model.to_bytes()
        for value in (np.nan, np.inf, 1e30):
            (rows,) = _lists(3, 1, 4)
            rows[3, 1] = value
            model.learn(rows, 0)
        assert model.to_bytes() == before

    def test_other_signals_and_candidates_that_are_not_there_are_refused(self) -> None:
        """With what was wanted."""
        model = self.make(_WEIGHTS, _MAX_WEIGHTS)
        (rows,) = _lists(1, 1, 4)
        with pytest.raises(ValueError, match="4 columns"):
            model.learn(rows[:, :3], 0)
        for chosen in (-1, len(rows)):
            with pytest.raises(ValueError, match=f"{len(rows)} candidates"):
                model.learn(rows, chosen)

    def test_the_same_examples_give_the_same_model(self) -> None:
        """Byte for byte; others do not."""
        assert self._taught(5).to_bytes() == self._taught(5).to_bytes() != self._taught(6).to_bytes()

    def test_a_stored_model_goes_on_as_if_it_had_never_stopped(self) -> None:
        """In place of whatever was learned before."""
        model, other = self._taught(1), self._taught(2)
        assert other.take(model.to_bytes())
        assert other.examples == model.examples
        for one in (model, other):
            _teach(one, seed=3)
        assert other.to_bytes() == model.to_bytes()

    @pytest.mark.parametrize("names", [["a", "b", "c", "d", "new"], ["new", "d", "a", "b", "c"], ["d", "b"]])
    def test_what_was_learned_of_other_signals_is_kept(self, names: list[str]) -> None:
        """Candidates without the signals that are new, or gone, score as before."""
        old = self._taught()
        model = self.make({name: _WEIGHTS.get(name, 0.7) for name in names}, _MAX_WEIGHTS)
        assert model.take(old.to_bytes())
        assert (model.names, model.examples) == (tuple(names), old.examples)
        shared = [name for name in names if name in old.names]
        (values,) = _lists(9, 1, len(shared))
        before = np.zeros((len(values), len(old.names)), np.float32)
        after = np.zeros((len(values), len(names)), np.float32)
        before[:, [old.names.index(name) for name in shared]] = values
        after[:, [names.index(name) for name in shared]] = values
        np.testing.assert_allclose(model.score(after), old.score(before), atol=1e-5)
        _teach(model)
        assert np.isfinite(model.score(after)).all()

    def test_bytes_of_another_model_are_refused_and_change_nothing(self) -> None:
        """They begin with something else."""
        model = self._taught()
        before = model.to_bytes()
        assert not model.take(msgspec.msgpack.encode(["another model", ["a"], 1.0]))
        assert model.to_bytes() == before

    def test_the_mean_of_models_weighs_them_by_their_examples(self) -> None:
        """Of equal models it is that model; of others it lies between them."""
        model, same = self._taught(1), self._taught(1)
        model.average([same])
        np.testing.assert_allclose(
            list(model.feature_effects.values()), list(same.feature_effects.values()), atol=1e-6
        )
        most, least = self._taught(1), self.make(_WEIGHTS, _MAX_WEIGHTS)
        effects = np.array(list(most.feature_effects.values()))
        least.average([most])
        mean = np.array(list(least.feature_effects.values()))
        assert np.abs(mean - effects).sum() < np.abs(mean - list(_WEIGHTS.values())).sum()

    def test_an_untrained_model_has_learned_nothing(self) -> None:
        """It is the one it once was."""
        model = self._taught()
        assert model.untrained().to_bytes() == self.make(_WEIGHTS, _MAX_WEIGHTS).to_bytes()
        assert model.examples > 0.0
