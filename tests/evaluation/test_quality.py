"""Quality does not fall unseen: on slices of a real log, MovieLens 100K, and in a small shop."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from recstream.config import Settings
from recstream.demo.movielens import find_or_fetch, read_wheel
from recstream.evaluation.protocol import Protocol
from recstream.evaluation.replay_loop import OWN
from recstream.evaluation.runs import EvaluationRun, evaluate
from tests.bench import bench_repeats, shop
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


def test_where_people_come_back_to_items_lists_beat_the_counts_of_their_own(tmp_path: Path) -> None:
    """In a small shop, whose habits are older than the events that are kept one by one."""
    log = shop.events(5_000, users=40, items=300)
    assert 0.28 < shop.share_of_repeats(log) < 0.34
    items = write(tmp_path / "items.jsonl", shop.items(300))
    rows = bench_repeats.measured(
        tmp_path, items, write(tmp_path / "events.jsonl", log), against=("owncounts",)
    )
    for name in ("hr@10", "ndcg@10"):
        assert rows[OWN][name] > rows["owncounts"][name] > 0.0, rows


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
