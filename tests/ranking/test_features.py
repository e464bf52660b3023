"""Features: each signal against a slow reading of its definition, on random catalogues."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.items.session_index import SessionIndex
from recstream.items.statistics import SCALES, Interaction, ItemStatistics
from recstream.items.tfidf_index import TfidfIndex
from recstream.ranking import features as module
from recstream.ranking.kernels import attribution, candidates
from recstream.ranking.kernels import features as kernels
from recstream.ranking.kernels.structs import (
    PER_CANDIDATE,
    PER_ITEM,
    POPULARITY,
    RECENCY_WEIGHTS,
    TEXT,
    CatalogueArrays,
    Workspace,
)
from recstream.ranking.models.shallow_network import split_scores
from recstream.ranking.query import ItemHistory, Query
from recstream.ranking.recommender import Recommender
from recstream.ranking.signals.table import SIGNALS
from recstream.records.arrays import AnyArray
from tests.support.builders import catalogue_of, event, query, user_state_after
from tests.support.random_catalogues import RandomCatalogue, extracted, random_catalogue
from tests.support.rules import ranking_rules

seeds = st.integers(0, 2**32 - 1)
OF_KERNELS = [name for name, signal in SIGNALS.items() if signal.compute is None]
"""Signals that the kernels compute: the others are tested where they are defined."""


def faded(count: int) -> AnyArray:
    return np.asarray(RECENCY_WEIGHTS[:count], np.float64)


def unit_terms(index: TfidfIndex, items: int) -> AnyArray:
    """Shape ``(items, terms)``: the index as a dense matrix of unit rows, without terms that no item has."""
    postings = index.postings
    held = np.unique(np.concatenate([index.terms_of(row) for row in range(items)]))
    rows = np.zeros((items, len(held)))
    for row in range(items):
        begin, length = postings.starts[row], postings.lengths[row]
        terms = postings.terms[begin : begin + length]
        rows[row, np.searchsorted(held, terms)] = (
            postings.counts[begin : begin + length] * postings.idf[terms]
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0.0, lengths, 1.0)


def dense_by_hand(drawn: RandomCatalogue, asked: Query) -> dict[str, tuple[AnyArray, float]]:
    """Products of the items' texts with the users' directions, and how much is known of each, 0 to 1."""
    drawn.catalogue.refresh_transform()
    text, transform = drawn.catalogue.text().astype(np.float64), drawn.catalogue.transform
    found = {"short_term": (asked.recent_weights @ text[asked.recent], 1.0 if len(asked.recent) else 0.0)}
    for name, total, weight in (
        ("words", asked.words, asked.words_weight),
        ("long_term", asked.long_term, asked.long_term_weight),
        ("disliked", asked.disliked, asked.disliked_weight),
    ):
        if total is None:
            found[name] = np.zeros(text.shape[1]), 0.0
            continue
        direction = (total.astype(np.float64) - weight * transform.mean) @ transform.projection
        found[name] = direction, 1.0 if name == "long_term" else min(weight, 1.0)
    return {
        name: (text @ (direction / max(float(np.linalg.norm(direction)), 1e-12)), strength)
        for name, (direction, strength) in found.items()
    }


def sparse_by_hand(drawn: RandomCatalogue, asked: Query) -> dict[str, AnyArray]:
    """Raw measures, ``(items,)`` each."""
    items, recent = len(drawn.catalogue), asked.recent.tolist()
    raw = {name: np.zeros(items) for name in (*PER_ITEM, *PER_CANDIDATE)}
    weights = faded(len(recent))
    terms, labels = (
        unit_terms(index, items) for index in (drawn.catalogue.lexicon, drawn.catalogue.categories)
    )
    for k, item in enumerate(recent):
        raw["lexical"] += weights[k] * (terms @ terms[item])
        raw["category"] += weights[k] * (labels @ labels[item])
        if k == 0:
            raw["lexical_last"] += terms @ terms[item]
    neighbours, followed_by, together_with = drawn.statistics.tables
    audience = np.sqrt(drawn.statistics.weights(max(items, len(neighbours))) + 1.0)

    def pairs(item: int, table: AnyArray) -> AnyArray:
        row = np.zeros(items)
        for other, weight in zip(neighbours[item], table[item], strict=True):
            if other >= 0:
                row[other] += weight
        return row

    for k, item in enumerate(recent):
        follows = pairs(item, followed_by)
        if k < kernels.FOLLOWED_ITEMS and follows.sum() > 0.0:
            raw["followed"] += follows / follows.sum() / (1 + k)
            if k == 0:
                raw["followed_last"] += follows / follows.sum()
        raw["together"] += weights[k] * pairs(item, together_with) / audience[item] / audience[:items]
    for k, item in enumerate(asked.disliked_items.tolist()):
        with_it = pairs(item, together_with) / audience[item] / audience[:items]
        raw["turned_away"] += faded(len(asked.disliked_items))[k] * (with_it + terms @ terms[item])
    raw["sessions"], raw["sessions_next"] = sessions_by_hand(drawn, asked)
    return raw


def sessions_by_hand(drawn: RandomCatalogue, asked: Query) -> tuple[AnyArray, AnyArray]:
    """V-STAN in plain Python: every session of another user's, item by item."""
    items, recent, tick = len(drawn.catalogue), asked.recent.tolist(), drawn.statistics.tick
    counts = drawn.statistics.popularity(items, SCALES.index(math.inf))
    near, after = np.zeros(items), np.zeros(items)
    for number in range(10_000):
        session = drawn.sessions.items_of(number)
        shared = [item for item in recent if item in session]
        if not shared or number == drawn.sessions.current(asked.user_id):
            continue
        likeness = sum(
            RECENCY_WEIGHTS[recent.index(item)] * math.log(1 + tick / (1 + counts[item])) for item in shared
        ) / math.sqrt(len(session))
        age = (drawn.sessions.tick_of(number) + kernels._YOUNG) / (tick + kernels._YOUNG)
        likeness *= age**2.5
        here = session.index(shared[0])
        for place, item in enumerate(session):
            value = likeness / (1.0 + counts[item]) ** 0.25
            near[item] += value * RECENCY_WEIGHTS[abs(place - here)]
            if place > here:
                after[item] += value * kernels._NEXT_WEIGHTS[place - here]
    return near, after


def normalised(measure: AnyArray, strength: float = 1.0) -> AnyArray:
    """Square roots over the list's largest."""
    largest = measure.max(initial=0.0)
    return strength * np.sqrt(np.maximum(measure, 0.0) / largest) if largest > 0.0 else np.zeros(len(measure))


def repeats_by_hand(history: ItemHistory) -> dict[int, float]:
    """Weights by item: each event counts the less, the more events came after it."""
    entries = list(zip(*(part.tolist() for part in history), strict=True))
    weights: dict[int, float] = {}
    for item, at, count in entries:
        later = sum(many for _, other, many in entries if other > at)
        weights[item] = weights.get(item, 0.0) + count / math.sqrt(1.0 + later / 10.0)
    return {item: weight**4 for item, weight in weights.items()}


def signals_by_hand(drawn: RandomCatalogue, asked: Query, rows: AnyArray, *, repeats: bool) -> AnyArray:
    """Shape ``(rows, signals)``."""
    found = {
        name: normalised(measure[rows], strength)
        for name, (measure, strength) in dense_by_hand(drawn, asked).items()
    }
    found |= {name: normalised(measure[rows]) for name, measure in sparse_by_hand(drawn, asked).items()}
    found["turned_away"] *= asked.dislike_strength
    items, tick = len(drawn.catalogue), drawn.statistics.tick
    for k, name in enumerate(POPULARITY):
        found[name] = normalised(drawn.statistics.popularity(items, k)[rows])
    years = (asked.as_of.ts - drawn.catalogue.published[rows]) / kernels._YEAR_S
    found["fresh"] = np.array([1 / math.sqrt(1 + year) if year >= 0 else 0.0 for year in years])
    found["upcoming"] = np.array([1.0 if year < 0 else 0.0 for year in years])
    since = drawn.statistics.since(items)[rows]
    found["untried"] = (since == 0.0).astype(float)
    met = np.where(since == 0.0, -np.inf, since)
    found["newcomer"] = np.sqrt(np.exp((met - tick) / kernels._NEWCOMER_TICKS))
    again = repeats_by_hand(asked.history) if repeats else {}
    found["repeat"] = normalised(np.array([again.get(row, 0.0) for row in rows.tolist()]))
    found["passed_over"] = np.isin(rows, asked.passed_over).astype(float)
    return np.stack([found[name] for name in OF_KERNELS], axis=1)


@given(seeds, st.booleans())
@settings(max_examples=30)
def test_every_signal_is_that_of_its_definition(seed: int, repeats: bool) -> None:
    drawn = random_catalogue(seed)
    asked = 0
    for one, got in zip(
        drawn.queries, extracted(drawn.extractor(repeats=repeats), drawn.queries), strict=True
    ):
        wanted = signals_by_hand(drawn, one, got.items, repeats=repeats)
        for k, name in enumerate(OF_KERNELS):
            mine = got.signals[:, list(SIGNALS).index(name)]
            np.testing.assert_allclose(mine, wanted[:, k], atol=2e-3, err_msg=f"{name} of {one.user_id}")
        asked += 1
    assert asked == len(drawn.queries)


@pytest.mark.parametrize("name", OF_KERNELS)
def test_every_signal_is_met_somewhere(name: str) -> None:
    """Or the test above would hold nothing of it."""
    column = list(SIGNALS).index(name)
    catalogues = (random_catalogue(seed) for seed in range(40))
    assert any(
        got.signals[:, column].any()
        for drawn in catalogues
        for got in extracted(drawn.extractor(repeats=True), drawn.queries)
    )


@given(seeds, st.booleans())
@settings(max_examples=30)
def test_candidates_may_be_shown_and_are_distinct_and_every_signal_is_a_share(
    seed: int, repeats: bool
) -> None:
    drawn = random_catalogue(seed)
    for user_state, got in zip(
        drawn.user_states, extracted(drawn.extractor(repeats=repeats), drawn.queries), strict=True
    ):
        items = got.items.tolist()
        barred = set(user_state.hidden) | (set() if repeats else set(user_state.seen))
        assert len(set(items)) == len(items)
        assert drawn.catalogue.available[got.items].all()
        assert not barred & set(items)
        assert got.signals.shape == (len(items), len(SIGNALS))
        assert (got.signals >= 0.0).all()
        assert (got.signals <= 1.0 + 1e-6).all()


@given(seeds)
@settings(max_examples=6)
def test_the_best_of_each_signal_are_candidates(seed: int) -> None:
    """Of many items so many of each: but not of what speaks against an item."""
    drawn = random_catalogue(seed, items=200, interactions=800)
    items = len(drawn.catalogue)
    scales = {name: drawn.statistics.popularity(items, k) for k, name in enumerate(POPULARITY)}
    since = drawn.statistics.since(items)
    for one, got in zip(drawn.queries, extracted(drawn.extractor(), drawn.queries), strict=True):
        dense = {name: m for name, (m, strength) in dense_by_hand(drawn, one).items() if strength}
        measures = dense | sparse_by_hand(drawn, one) | scales
        measures["newcomer"] = since
        free = drawn.catalogue.available.copy()
        free[one.excluded] = False
        for name in measures.keys():
            if not SIGNALS[name].nominates:
                continue
            measure = np.where(free, measures[name], 0.0)
            least = np.sort(measure)[-module._EACH]
            best = np.flatnonzero(measure > max(least, 1e-6) * (1 + 1e-4))
            assert set(best.tolist()) <= set(got.items.tolist()), name


@given(seeds, st.sampled_from([30, 700, 9000]), st.sampled_from([0.0, 0.3, 0.99]), st.booleans())
@settings(max_examples=60)
def test_the_best_of_many_are_those_of_a_sort(seed: int, count: int, away: float, is_grouped: bool) -> None:
    """Blocks of scores are passed over: also where the best stand together, or may not be shown."""
    random = np.random.default_rng(seed)
    scores = np.maximum(random.standard_normal(count), 0.0).round(2)
    if is_grouped:
        scores = np.sort(scores)
    available = random.random(count) >= away
    marks = (random.random(count) < 0.2).astype(np.int8)  # 1: excluded
    items, tiebreak = np.zeros(9, np.int32), random.random(count).astype(np.float32)
    found = candidates._add_best(scores, 5, arrays_with(available, tiebreak), room(marks), items, 2) - 2
    may = np.where(available & (marks != 1), scores, 0.0)
    wanted = np.lexsort((-tiebreak, -may))[:5]
    assert set(items[2 : 2 + found].tolist()) == {row for row in wanted.tolist() if may[row] > 0.0}
    assert found == min(5, int((may > 0.0).sum()))


def arrays_with(available: AnyArray, tiebreak: AnyArray) -> CatalogueArrays:
    """A catalogue of which nothing else matters."""
    some = random_catalogue(0)
    extractor = some.extractor()
    extracted(extractor, some.queries[:1])
    return extractor.arrays._replace(available=available, tiebreak=tiebreak)


def room(marks: AnyArray) -> Workspace:
    """To work in, with these marks."""
    count = len(marks)
    floats, places = np.zeros(1, np.float32), np.zeros(count, np.int32)
    return Workspace(floats, floats, places, places, np.zeros(count, np.int32), marks)


@given(seeds)
@settings(max_examples=15)
def test_a_list_does_not_depend_on_the_others_of_its_batch(seed: int) -> None:
    drawn = random_catalogue(seed, users=5)
    extractor = drawn.extractor()
    together = extracted(extractor, drawn.queries)
    for one, batch in zip(drawn.queries, together, strict=True):
        (alone,) = extracted(extractor, [one])
        mine = dict(zip(alone.items.tolist(), alone.signals, strict=True))
        theirs = dict(zip(batch.items.tolist(), batch.signals, strict=True))
        for item in mine.keys() & theirs.keys():
            np.testing.assert_allclose(mine[item], theirs[item], atol=2e-3)
        for item in mine.keys() ^ theirs.keys():  # only where BLAS rounding decides what is above zero
            assert (mine.get(item, theirs.get(item)))[: len(TEXT)].max() < 1e-2  # type: ignore[index]  # one has it


@given(seeds)
@settings(max_examples=15)
def test_asked_twice_it_answers_the_same(seed: int) -> None:
    """What is kept between queries is clean again: terms, marks, places, sessions."""
    drawn = random_catalogue(seed)
    extractor = drawn.extractor(repeats=True)
    first, second = (extracted(extractor, drawn.queries) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.items.tolist() == other.items.tolist()
        assert one.signals.tolist() == other.signals.tolist()
        assert one.sessions.tolist() == other.sessions.tolist()


def test_signals_that_are_not_used_are_zeros() -> None:
    drawn = random_catalogue(1)
    extractor = drawn.extractor(used=("popular", "short_term"))
    met = np.zeros(len(SIGNALS), np.bool_)
    for got in extracted(extractor, drawn.queries):
        met |= got.signals.any(axis=0)
    assert {name for name, is_met in zip(SIGNALS, met, strict=True) if is_met} == {"popular", "short_term"}


def test_items_and_events_that_come_are_seen_by_the_next_list() -> None:
    catalogue, statistics, sessions = catalogue_of(["a", "b"]), ItemStatistics(4), SessionIndex()
    drawn = RandomCatalogue(catalogue, statistics, sessions, [], [])
    extractor = drawn.extractor()
    asked = query(user_state_after([event(1.0, "view", "a")], catalogue))
    for k in range(1500):
        name = f"new{k}"
        catalogue.put(name, catalogue.vector(0))
        if k % 500 == 499:
            row = catalogue.handle(name) or 0
            statistics.count([Interaction(row, (0,))])
            sessions.add("somebody", 0, statistics.tick)
            sessions.add("somebody", row, statistics.tick)
            (got,) = extracted(extractor, [asked])
            (place,) = np.flatnonzero(got.items == row)
            signals = dict(zip(SIGNALS, got.signals[place].tolist(), strict=True))
            assert min(signals[one] for one in ("followed", "together", "sessions", "rising")) > 0.0


def test_only_the_sessions_most_like_the_users_own_speak() -> None:
    """And the own one does not, nor one that has left the window."""
    catalogue = catalogue_of([f"i{k}" for k in range(40)])
    statistics, sessions = ItemStatistics(4), SessionIndex(capacity=400, per_item=400)
    statistics.count([Interaction(k % 40, ()) for k in range(400)])
    for k in range(500):  # the first hundred leave
        for item in (1, 2 if k % 2 else 3, 4 + k % 30):
            sessions.add(f"user {k}", item, float(k))
    for item in (1, 2, 35):
        sessions.add("u1", item, 500.0)
    drawn = RandomCatalogue(catalogue, statistics, sessions, [], [])
    user_state = user_state_after(
        [event(1.0, "view", "i1", offset=1), event(2.0, "view", "i2", offset=2)], catalogue
    )
    (got,) = extracted(drawn.extractor(), [query(user_state)])
    numbers = sessions._numbers[got.sessions].tolist()
    assert len(set(numbers)) == kernels.NEAREST_SESSIONS
    assert sessions.current("u1") not in numbers
    assert min(numbers) > 100  # the others have left
    assert all({1, 2} <= set(sessions.items_of(number)) for number in numbers)  # these share two items
    assert 35 not in got.items[got.signals[:, list(SIGNALS).index("sessions")] > 0.0]


def test_many_asked_together_get_the_candidates_they_get_alone_where_many_items_are_equal() -> None:
    """In a young stream nearly all items were met once, and no list of the most popular holds them all."""
    catalogue = catalogue_of([f"i{k}" for k in range(900)])
    statistics = ItemStatistics(4)
    statistics.count([Interaction(k, ()) for k in np.random.default_rng(0).permutation(900)[:600].tolist()])
    drawn = RandomCatalogue(catalogue, statistics, SessionIndex(), [], [])
    asked = [
        query(user_state_after([event(1.0, "view", f"i{50 * k}", user=f"u{k}")], catalogue, user=f"u{k}"))
        for k in range(module._MANY_LISTS)
    ]
    extractor = drawn.extractor()
    for one, together in zip(asked, extracted(extractor, asked), strict=True):
        (alone,) = extracted(extractor, [one])
        assert set(alone.items.tolist()) == set(together.items.tolist())


@given(seeds)
@settings(max_examples=10)
def test_which_of_equally_like_sessions_speak_does_not_depend_on_where_they_stand(seed: int) -> None:
    """A window that was stored and taken up again holds the same, in other places."""
    random = np.random.default_rng(seed)
    catalogue = catalogue_of([f"i{k}" for k in range(30)])
    statistics, sessions = ItemStatistics(4), SessionIndex(capacity=700, per_item=150)
    statistics.count([Interaction(k % 30, ()) for k in range(600)])
    for k in range(1000):  # of one tick, two by two, of one length: nearly all are equally like
        sessions.add(f"user {k}", int(random.integers(0, 2)), float(k // 500))
        sessions.add(f"user {k}", int(random.integers(2, 30)), float(k // 500))
    again = SessionIndex(capacity=700, per_item=150)
    users = list(dict.fromkeys(sessions._users.values()))
    again.put({user: sessions.chunks_of(user) for user in reversed(users)})
    user_state = user_state_after([event(1.0, "view", "i0"), event(2.0, "view", "i1", offset=2)], catalogue)
    found = []
    for window in (sessions, again):
        (got,) = extracted(
            RandomCatalogue(catalogue, statistics, window, [], []).extractor(), [query(user_state)]
        )
        found.append({window._users[number] for number in window._numbers[got.sessions].tolist()})
    assert len(found[0]) == kernels.NEAREST_SESSIONS
    assert found[0] == found[1]


def test_the_loops_are_compiled_for_one_kind_of_arrays() -> None:
    """Or the stream would stand still for half a minute when another kind comes: see `warm_up`."""
    for items in (1, 2, 511, 512, 1023, 1024, 1025, 2050):
        statistics = ItemStatistics(2)
        catalogue = catalogue_of([f"i{k}" for k in range(items)])
        for touched in (0, 1, items):
            statistics.count([Interaction(k, ()) for k in range(touched)])
            recommender = Recommender(catalogue, statistics, ranking_rules())
            user_state = user_state_after([event(1.0, "view", "i0")], catalogue)
            recommender.rank([query(user_state)])
            recommender.rank([query(user_state)] * 20)
            recommender.learn(query(user_state), items - 1)
    nothing = Recommender(catalogue_of([]), ItemStatistics(2), ranking_rules())
    assert nothing.rank(
        [query(user_state_after([event(1.0, "search", text="jazz")], nothing.catalogue))]
    ) == [[]]
    loops: list[Any] = [
        kernels.finish_directions,
        kernels.extract_features,
        attribution.explain_lists,
        candidates.best_places,
        split_scores,
    ]
    for loop in loops:
        kinds = {str(signature) for signature in loop.signatures}
        assert len(kinds) == 1, kinds
