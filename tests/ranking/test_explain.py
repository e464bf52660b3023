"""Explanations: a score's parts go to the items they come from, and no further."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.items.catalogue import Catalogue
from recstream.items.session_index import SessionIndex
from recstream.items.statistics import Interaction, ItemStatistics
from recstream.items.terms import pack, text_terms
from recstream.ranking.kernels.attribution import attribute_to_items
from recstream.ranking.kernels.structs import user_arrays_of
from recstream.ranking.recommender import RankedItem, RankingRules, Recommender, rank
from recstream.ranking.signals.table import SIGNALS, default_weights
from recstream.records.arrays import Matrix
from recstream.records.event import Event
from tests.support.builders import DIM, arrived, catalogue_of, event, popular, query, unit, user_state_after
from tests.support.random_catalogues import RandomCatalogue, random_catalogue
from tests.support.rules import ranking_rules

seeds = st.integers(0, 2**32 - 1)
OF_ITEMS = (
    "short_term",
    "lexical",
    "lexical_last",
    "category",
    "followed",
    "followed_last",
    "together",
    "sessions",
    "sessions_next",
)
"""Signals that come of the user's recent items."""


def shares(drawn: RandomCatalogue, names: tuple[str, ...]) -> list[tuple[Matrix, Matrix]]:
    """What the recent items contributed to every candidate where these signals alone count, and the parts."""
    extractor, found = drawn.extractor(), []
    for asked in drawn.queries:
        (got,) = extractor.extract([asked])
        columns = np.isin(list(SIGNALS), names).astype(np.float32)
        parts: Matrix = got.signals * columns
        shared = attribute_to_items(
            got.items,
            parts,
            user_arrays_of(got.users, 0),
            extractor.arrays,
            extractor.columns,
            got.sessions[0, : got.sessions_found[0]],
            got.likeness[0],
            extractor.workspace,
        )
        found.append((shared, parts))
    return found


@given(seeds, st.sampled_from(OF_ITEMS))
@settings(max_examples=40)
def test_a_signals_part_goes_to_recent_items_whole(seed: int, name: str) -> None:
    """None is negative where the part is not, and together they are the part."""
    for shared, parts in shares(random_catalogue(seed), (name,)):
        assert (shared >= -1e-6).all()
        if shared.shape[1]:
            np.testing.assert_allclose(shared.sum(axis=1), parts.sum(axis=1), atol=1e-3)


@given(seeds)
@settings(max_examples=20)
def test_what_comes_from_no_item_goes_to_none(seed: int) -> None:
    for shared, parts in shares(random_catalogue(seed), tuple(SIGNALS.keys() - set(OF_ITEMS))):
        assert not shared.any()
        assert parts.any() or not len(parts)


@given(seeds)
@settings(max_examples=20)
def test_of_a_list_no_more_is_given_to_items_than_its_parts(seed: int) -> None:
    for shared, parts in shares(random_catalogue(seed), tuple(SIGNALS)):
        if shared.shape[1]:
            columns = np.isin(list(SIGNALS), OF_ITEMS)
            assert (shared.sum(axis=1) <= parts[:, columns].sum(axis=1) + 1e-3).all()


def only(*names: str) -> RankingRules:
    """Rules by which these signals alone count."""
    return ranking_rules(top_n=30, weights=dict.fromkeys(default_weights(), 0.0) | dict.fromkeys(names, 1.0))


def viewed(*items: str) -> list[Event]:
    return arrived([event(float(at), "view", item) for at, item in enumerate(items)])


def because(catalogue: Catalogue, ranked: list[RankedItem]) -> dict[str, list[str]]:
    return {catalogue.ids[one.item]: [catalogue.ids[cause] for cause in one.because] for one in ranked}


@pytest.mark.parametrize("name", ["followed", "together"])
@pytest.mark.parametrize("cause", ["a", "b", "c"])
def test_the_cause_of_a_neighbour_is_the_item_it_is_a_neighbour_of(name: str, cause: str) -> None:
    catalogue = catalogue_of(["a", "b", "c", "found", "rest"])
    found, of = catalogue.handle("found") or 0, catalogue.handle(cause) or 0
    statistics = ItemStatistics(8)
    statistics.count([Interaction(found, (of,))] * 3)
    asked = query(user_state_after(viewed("a", "b", "c"), catalogue))
    (ranked,) = rank([asked], catalogue, statistics, only(name))
    assert because(catalogue, ranked)["found"] == [cause]


@pytest.mark.parametrize("name", ["lexical", "category"])
@pytest.mark.parametrize("cause", [0, 1, 2])
def test_the_cause_of_shared_words_or_labels_is_the_item_that_has_them(name: str, cause: int) -> None:
    catalogue = Catalogue(DIM)
    for k, words in enumerate(["green tea", "black coffee", "red wine"]):
        catalogue.put(f"i{k}", unit(k), terms=pack(text_terms(words)), categories=[words])
    words = ["green tea", "black coffee", "red wine"][cause]
    catalogue.put("found", unit("found"), terms=pack(text_terms(words)), categories=[words])
    for k in range(40):
        catalogue.put(f"other{k}", unit(f"other{k}"), terms=pack(text_terms(f"other{k}")))
    asked = query(user_state_after(viewed("i0", "i1", "i2"), catalogue))
    (ranked,) = rank([asked], catalogue, popular({3: 1}), only(name))
    assert because(catalogue, ranked)["found"] == [f"i{cause}"]


@pytest.mark.parametrize("cause", ["a", "b", "c"])
def test_the_cause_of_a_session_is_the_item_it_shares(cause: str) -> None:
    catalogue = catalogue_of(["a", "b", "c", "found", "rest"])
    statistics, sessions = popular({4: 5}), SessionIndex()
    for item in (cause, "found"):
        sessions.add("another", catalogue.handle(item) or 0, 1.0)
    recommender = Recommender(catalogue, statistics, only("sessions"), sessions=sessions)
    (ranked,) = recommender.rank([query(user_state_after(viewed("a", "b", "c"), catalogue))])
    assert because(catalogue, ranked)["found"] == [cause]


def test_the_signals_of_the_last_item_name_it() -> None:
    catalogue = catalogue_of(["a", "b", "found"])
    statistics = ItemStatistics(8)
    statistics.count([Interaction(2, (1,))])
    (ranked,) = rank(
        [query(user_state_after(viewed("a", "b"), catalogue))], catalogue, statistics, only("followed_last")
    )
    assert because(catalogue, ranked)["found"] == ["b"]


def test_the_strongest_cause_comes_first() -> None:
    catalogue = catalogue_of(["a", "b", "found"])
    for often_with, order in ((0, ["a", "b"]), (1, ["b", "a"])):
        statistics = ItemStatistics(8)
        statistics.count([Interaction(2, (often_with,))] * 40 + [Interaction(2, (1 - often_with,))])
        asked = query(user_state_after(viewed("b", "a") if often_with else viewed("a", "b"), catalogue))
        (ranked,) = rank([asked], catalogue, statistics, only("together"))
        assert because(catalogue, ranked)["found"] == order


def test_a_user_without_items_has_no_causes() -> None:
    catalogue = catalogue_of(["a", "b"])
    asked = query(user_state_after([event(1.0, "search", text="jazz")], catalogue))
    (ranked,) = rank([asked], catalogue, popular({0: 2, 1: 1}), ranking_rules())
    assert [one.because for one in ranked] == [(), ()]
