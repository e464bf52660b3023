"""Contract suites of the stores: subclass one with ``make()``, and pytest runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recstream.items.codec import ItemRow, StatisticsRow
from recstream.records.arrays import Vector
from recstream.stores.base import ItemStore, ModelRow, ModelStore, StatisticsStore, UserStore
from recstream.users.codec import UserRow

__all__ = [
    "DIM",
    "HOSTILE_TEXTS",
    "ItemStoreContract",
    "ModelStoreContract",
    "StatisticsStoreContract",
    "UserStoreContract",
    "item_row",
    "model_row",
    "same_row",
    "statistics_row",
    "unit",
    "user_row",
]

DIM = 8
"""Length of the vectors the suites use: ``make()`` gives a store of this dim."""

HOSTILE_TEXTS: tuple[str, ...] = (
    "",
    " ",
    "'",
    "''",
    "o'neil",
    "\\",
    "\\'",
    "a\nb\r\n",
    "\x00",
    "a\x00b",
    "a\x00c",
    "\t\x1a\x7f",
    '"',
    "%",
    "_",
    "-- drop",
    "/*",
    "'; DELETE FROM users; --",
    "') OR ('1'='1",
    "NULL",
    "{}",
    "${x}",
    "é",
    "e\u0301",
    "\u2028\ufeff",
    "\ud7ff\ue000",
    "\U0010ffff",
    "👩\u200d👩\u200d👧",
    "x" * 10_240,
    "'" * 10_240,
)
"""Ids and texts that break naive filters and encodings; every one must come back as it was."""

texts = st.one_of(
    st.sampled_from(HOSTILE_TEXTS),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.sampled_from("'\"\\\n\x00;-%_ ()aé😀"), max_size=20),
)
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
"""Each example goes to a disk."""


def unit(seed: int, dim: int = DIM) -> Vector:
    """A unit vector that depends on the seed alone."""
    vector = np.random.default_rng(seed).standard_normal(dim)
    scaled: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return scaled


def user_row(user_id: str, version: int = 1, **fields: Any) -> UserRow:
    """A user with plausible fields, some replaced."""
    vector = fields.pop("vector", unit(version))
    row = UserRow(user_id, 3, version, version * 2, 1.5 + version, vector, b"\x01state\x00%d" % version)
    return row._replace(**fields)


def item_row(item_id: str, seq: int = 1, **fields: Any) -> ItemRow:
    """An item with plausible fields, some replaced."""
    row = ItemRow(
        item_id, f"title {seq}", ("c",), ("t", "u"), 1.7e9, True, False, f"hash{seq}", unit(seq), seq
    )
    return row._replace(**fields)


def statistics_row(item_id: str, seq: int = 1, **fields: Any) -> StatisticsRow:
    """Statistics with plausible fields, some replaced."""
    return StatisticsRow(item_id, 2, seq, 10.25, (0.5, 2.0**40, seq), b"\x01n\x00")._replace(**fields)


def model_row(name: str, seq: int = 1, **fields: Any) -> ModelRow:
    """A model with plausible fields, some replaced."""
    return ModelRow(name, seq, b"\x01m\x00%d" % seq)._replace(**fields)


def same_row(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two rows are equal field by field; vectors bit by bit."""
    return len(one) == len(other) and all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else (a == b and type(a) is type(b))
        for a, b in zip(one, other, strict=True)
    )


UNFINISHED_ROWS = (("d", 2, 1), ("a", 1, 6), ("b", 1, 0), ("c", 3, 1), ("e", 2, 4))
"""User, shard, what is unfinished."""


class UserStoreContract(ABC):
    """Every :class:`recstream.stores.base.UserStore` passes these."""

    @abstractmethod
    def make(self) -> UserStore:
        """A new empty store of dim ``DIM``."""

    def test_a_row_comes_back_as_it_was(self) -> None:
        """Every field, the vector bit by bit."""
        store, row = (
            self.make(),
            user_row("u1", updated_at=1.7e9 + 0.125, version=2**60, state=bytes(range(256))),
        )
        store.upsert([row])
        assert same_row(store.fetch(["u1"])["u1"], row)

    def test_who_is_unfinished_is_found_by_shard(self) -> None:
        """Only users with a reason to come back to, whichever it is, only in the shards asked for."""
        store = self.make()
        store.upsert(
            [user_row(name)._replace(shard=shard, unfinished=n) for name, shard, n in UNFINISHED_ROWS]
        )
        assert list(store.unfinished([1, 2]).items()) == [("a", 6), ("d", 1), ("e", 4)]
        assert store.unfinished([]) == {}
        assert store.ids() == ["a", "b", "c", "d", "e"]

    def test_unknown_ids_are_absent(self) -> None:
        """Also in an empty store, also for no ids, also for text that cannot be stored."""
        store = self.make()
        assert store.fetch(["nobody"]) == {}
        store.upsert([user_row("u1")])
        assert store.fetch([]) == {}
        assert set(store.fetch(["nobody", "u1", "u1", "\ud800"])) == {"u1"}

    def test_upsert_replaces_what_is_there_and_adds_what_is_not(self) -> None:
        """The newer row wins whole."""
        store = self.make()
        store.upsert([user_row("a", 1), user_row("b", 1)])
        store.upsert([user_row("b", 2), user_row("c", 2)])
        found = store.fetch(["a", "b", "c"])
        assert {key: row.version for key, row in found.items()} == {"a": 1, "b": 2, "c": 2}
        assert same_row(found["b"], user_row("b", 2))
        assert store.count() == 3

    def test_a_doubled_id_is_refused_and_nothing_is_written(self) -> None:
        """A store that took both would hold the key twice."""
        store = self.make()
        with pytest.raises(ValueError, match="twice"):
            store.upsert([user_row("a"), user_row("b"), user_row("a")])
        assert store.count() == 0

    @pytest.mark.parametrize(
        "bad",
        [
            {"user_id": "\ud800"},
            {"vector": np.ones(DIM + 1, np.float32)},
            {"vector": np.full(DIM, np.nan, np.float32)},
        ],
    )
    def test_a_bad_row_is_refused_and_nothing_is_written(self, bad: dict[str, Any]) -> None:
        """All rows or none."""
        store = self.make()
        with pytest.raises(ValueError, match=r"surrogate|shape|NaN|inhomogeneous"):
            store.upsert([user_row("good"), user_row("bad")._replace(**bad)])
        assert store.count() == 0

    def test_no_rows_do_nothing(self) -> None:
        """Neither written nor deleted."""
        store = self.make()
        store.upsert([])
        store.delete([])
        assert store.count() == 0

    def test_delete_removes_those_and_ignores_unknown_ids(self) -> None:
        """Others stay."""
        store = self.make()
        store.upsert([user_row("a"), user_row("b'"), user_row("c")])
        store.delete(["b'", "nobody", "a", "\ud800"])
        assert set(store.fetch(["a", "b'", "c"])) == {"c"}
        store.upsert([user_row("a", 7)])
        assert store.fetch(["a"])["a"].version == 7

    def test_any_number_of_ids_is_fetched(self) -> None:
        """More than one filter can name, more than a default limit."""
        store = self.make()
        ids = [f"user-{number}" for number in range(2_500)]
        store.upsert([user_row(user_id) for user_id in ids])
        assert set(store.fetch([*ids, *(f"no-{user_id}" for user_id in ids)])) == set(ids)
        assert store.count() == len(ids)
        store.delete(ids[:2_200])
        assert set(store.fetch(ids)) == set(ids[2_200:])

    def test_hostile_ids_are_plain_ids(self) -> None:
        """Each is found by itself, and finds nothing but itself."""
        store = self.make()
        store.upsert([user_row(text, number) for number, text in enumerate(HOSTILE_TEXTS)])
        for number, text in enumerate(HOSTILE_TEXTS):
            found = store.fetch([text])
            assert list(found) == [text]
            assert found[text].version == number
        assert set(store.fetch(HOSTILE_TEXTS)) == set(HOSTILE_TEXTS)

    @few
    @given(st.data())
    def test_any_text_survives_the_round_trip(self, data: st.DataObject) -> None:
        """Stored, fetched alone and together, deleted: by exactly that id."""
        store = self.make()
        ids = data.draw(st.lists(texts, min_size=1, max_size=6, unique=True))
        states = data.draw(st.lists(st.binary(max_size=64), min_size=len(ids), max_size=len(ids)))
        rows = [user_row(user_id, state=state) for user_id, state in zip(ids, states, strict=True)]
        store.upsert(rows)
        for row in rows:
            (only,) = store.fetch([row.user_id]).values()
            assert same_row(only, row)
        store.delete(ids[:1])
        assert set(store.fetch(ids)) == set(ids[1:])

    def test_vectors_of_zeros_are_legal(self) -> None:
        """A user without a taste yet; nobody's neighbour, but no error either."""
        store = self.make()
        nothing = np.zeros(DIM, np.float32)
        store.upsert([user_row("none", vector=nothing), user_row("some", vector=unit(1))])
        assert not store.fetch(["none"])["none"].vector.any()
        assert store.near(unit(1), 2) == [("some", pytest.approx(1.0, abs=1e-5)), ("none", 0.0)]
        assert {similarity for _, similarity in store.near(nothing, 2)} == {0.0}

    def test_near_gives_the_n_most_similar_best_first(self) -> None:
        """Cosine similarity, whatever the length of the query."""
        store = self.make()
        vectors = {f"u{seed}": unit(seed) for seed in range(40)}
        store.upsert([user_row(user_id, vector=vector) for user_id, vector in vectors.items()])
        query = unit(99)
        best = sorted(vectors, key=lambda user_id: -float(vectors[user_id] @ query))[:5]
        found = store.near(query * np.float32(3), 5)
        assert [user_id for user_id, _ in found] == best
        for user_id, similarity in found:
            assert similarity == pytest.approx(float(vectors[user_id] @ query), abs=1e-5)
        assert store.near(query, 0) == []
        assert len(store.near(query, 100)) == len(vectors)

    def test_maintenance_changes_no_answer(self) -> None:
        """Called as often as one likes."""
        store = self.make()
        for version in range(5):
            store.upsert([user_row("a", version), user_row(f"b{version}", version)])
            store.maintain()
        assert store.fetch(["a"])["a"].version == 4
        assert store.count() == 6

    def test_fetched_vectors_cannot_be_written_into(self) -> None:
        """They may be views of a shared buffer."""
        store = self.make()
        store.upsert([user_row("a")])
        with pytest.raises(ValueError, match="read-only"):
            store.fetch(["a"])["a"].vector[0] = 1.0

    def test_settled_it_says_so(self) -> None:
        """Whether it ever was not."""
        store = self.make()
        store.upsert([user_row("a")])
        store.settle()
        assert store.is_settled()

    def test_those_who_changed_last_are_found(self) -> None:
        """As many as asked for, or all; written anew they count as new."""
        store = self.make()
        assert store.newest(3) == []
        for k in range(6):
            store.upsert([user_row(f"u{k}", updated_at=float(k))])
        store.upsert([user_row("u1", updated_at=9.0, version=7)])
        found = {row.user_id: row for row in store.newest(3)}
        assert sorted(found) == ["u1", "u4", "u5"]
        assert (found["u1"].version, found["u1"].vector.tolist()) == (7, unit(7).tolist())
        assert len(store.newest(100)) == 6
        assert store.newest(0) == []

    def test_who_was_active_is_found_in_pages_the_last_first(self) -> None:
        """In some shards, from a time on; equals in order of their ids; a page begins after any user."""
        store = self.make()
        times = {"a": 5.0, "c'": 7.25, "b": 7.25, "é": 7.25, "old": 1.0, "zero": 0.0}
        rows = [user_row(user_id, shard=2, updated_at=at) for user_id, at in times.items()]
        store.upsert([*rows, user_row("elsewhere", shard=9, updated_at=6.0)])
        everybody = [("b", 7.25), ("c'", 7.25), ("é", 7.25), ("a", 5.0), ("old", 1.0), ("zero", 0.0)]
        start = (float("inf"), "")
        assert store.active([2, 3], -1.0, start, 9) == everybody
        assert store.active([2], float("-inf"), start, 9) == everybody
        assert store.active([9, 2], 5.0, start, 9) == [*everybody[:3], ("elsewhere", 6.0), ("a", 5.0)]
        assert store.active([2], 0.0, (7.25, ""), 2) == everybody[:2]
        for at, (user_id, updated_at) in enumerate(everybody):
            assert store.active([2], 0.0, (updated_at, user_id), 2) == everybody[at + 1 : at + 3]
        assert store.active([2], 0.0, start, 0) == store.active([], 0.0, start, 9) == []


class ItemStoreContract(ABC):
    """Every :class:`recstream.stores.base.ItemStore` passes these."""

    @abstractmethod
    def make(self) -> ItemStore:
        """A new empty store of dim ``DIM``."""

    def test_a_row_comes_back_as_it_was(self) -> None:
        """Nothing, none and empty stay apart."""
        store = self.make()
        rows = [
            item_row("a", 1),
            item_row("b", 2, categories=(), tags=("", "x'y"), published_at=None, title=""),
            item_row("c", 3, deleted=True, available=False, vector=np.zeros(DIM, np.float32)),
            item_row("d", 2**62, published_at=0.0, title="\x00'\n👩\u200d👧"),
            item_row("e", 2**62, terms=bytes(range(256)) * 4),
        ]
        store.upsert(rows)
        found = store.changed_since(-1)
        assert all(same_row(one, other) for one, other in zip(found, rows, strict=True))

    def test_changed_since_gives_what_is_newer_in_order(self) -> None:
        """By ``(seq, item_id)``, ids by code point; more rows than any default limit."""
        store = self.make()
        assert store.changed_since(-1) == []
        ids = [f"i{number}" for number in range(50)] + ["é", "z", "Z", "😀", "\uffff", ""]
        store.upsert([item_row(item_id, 7) for item_id in ids])
        store.upsert([item_row("first", 3), item_row("i5", 9)])
        order = [(row.seq, row.item_id) for row in store.changed_since(-1)]
        wanted = [(3, "first"), *((7, item_id) for item_id in ids if item_id != "i5"), (9, "i5")]
        assert order == sorted(wanted)
        assert [row.item_id for row in store.changed_since(7)] == ["i5"]
        assert store.changed_since(9) == []
        assert store.count() == len(ids) + 1

    def test_version_differs_after_a_write(self) -> None:
        """And stands still without one."""
        store = self.make()
        before = store.version()
        assert store.version() == before
        store.changed_since(-1)
        assert store.version() == before
        store.upsert([item_row("a")])
        after = store.version()
        assert after != before
        store.upsert([item_row("a", 2)])
        assert store.version() not in (before, after)

    def test_a_doubled_id_is_refused_and_nothing_is_written(self) -> None:
        """As for users."""
        store = self.make()
        with pytest.raises(ValueError, match="twice"):
            store.upsert([item_row("a"), item_row("a", 2)])
        assert store.changed_since(-1) == []

    def test_maintenance_changes_no_answer(self) -> None:
        """Only perhaps the version."""
        store = self.make()
        for seq in range(4):
            store.upsert([item_row("a", seq), item_row(f"b{seq}", seq)])
            store.maintain()
        assert [row.seq for row in store.changed_since(1)] == [2, 3, 3]

    def test_titles_are_those_of_items_that_are_there(self) -> None:
        """Not of unknown or deleted ones, whatever the ids look like."""
        store = self.make()
        store.upsert([item_row("a"), item_row("b", 2, deleted=True), item_row("o'neil", 3, title="")])
        assert store.titles(["a", "b", "c", "o'neil", "a"]) == {"a": "title 1", "o'neil": ""}
        assert store.titles([]) == {}

    @few
    @given(
        st.lists(st.tuples(texts, texts, st.lists(texts, max_size=3)), max_size=5, unique_by=lambda t: t[0])
    )
    def test_any_text_survives_the_round_trip(self, drawn: list[tuple[str, str, list[str]]]) -> None:
        """In ids, titles, categories and tags."""
        store = self.make()
        rows = [
            item_row(item_id, seq, title=title, categories=tuple(words), tags=tuple(words))
            for seq, (item_id, title, words) in enumerate(drawn)
        ]
        store.upsert(rows)
        assert all(same_row(a, b) for a, b in zip(store.changed_since(-1), rows, strict=True))


class StatisticsStoreContract(ABC):
    """Every :class:`recstream.stores.base.StatisticsStore` passes these."""

    @abstractmethod
    def make(self) -> StatisticsStore:
        """A new empty store."""

    def test_a_row_comes_back_as_it_was(self) -> None:
        """No counts and no state included."""
        store = self.make()
        rows = [
            statistics_row("'a", 1, state=bytes(range(256))),
            statistics_row("b", 2, counts=(), state=b"", tick=1e300),
        ]
        rows[0] = rows[0]._replace(counts=(0.1, 5e-324, 2.0**53))
        store.upsert(rows)
        found = store.changed_since(-1)
        assert all(same_row(one, other) for one, other in zip(found, rows, strict=True))

    def test_changed_since_gives_what_is_newer_in_order(self) -> None:
        """By ``(seq, item_id)``."""
        store = self.make()
        store.upsert([statistics_row("b", 4), statistics_row("a", 4), statistics_row("c", 1)])
        assert [row.item_id for row in store.changed_since(-1)] == ["c", "a", "b"]
        store.upsert([statistics_row("c", 5)])
        assert [row.item_id for row in store.changed_since(4)] == ["c"]

    def test_version_differs_after_a_write(self) -> None:
        """And stands still without one."""
        store = self.make()
        before = store.version()
        store.upsert([])
        assert store.version() == before
        store.upsert([statistics_row("a")])
        assert store.version() != before

    def test_a_doubled_id_is_refused_and_nothing_is_written(self) -> None:
        """As for users."""
        store = self.make()
        with pytest.raises(ValueError, match="twice"):
            store.upsert([statistics_row("a"), statistics_row("a", 2)])
        assert store.changed_since(-1) == []

    def test_maintenance_changes_no_answer(self) -> None:
        """Only perhaps the version."""
        store = self.make()
        store.upsert([statistics_row("a")])
        store.maintain()
        assert [row.item_id for row in store.changed_since(-1)] == ["a"]


class ModelStoreContract(ABC):
    """Every :class:`recstream.stores.base.ModelStore` passes these."""

    @abstractmethod
    def make(self) -> ModelStore:
        """A new empty store."""

    def test_rows_come_back_as_they_were_by_name_in_order(self) -> None:
        """Any name, no state included, a large state too."""
        store = self.make()
        assert store.fetch() == {}
        rows = [model_row(name, number) for number, name in enumerate(HOSTILE_TEXTS)]
        rows += [
            model_row("weights/3", 2**62, state=bytes(range(256)) * 4096),
            model_row("transform", 0, state=b""),
        ]
        store.upsert(rows)
        found = store.fetch()
        assert list(found) == sorted(row.name for row in rows)
        assert found == {row.name: row for row in rows}

    def test_some_names_give_those_rows_that_exist(self) -> None:
        """None of them, where none is asked for; each once."""
        store = self.make()
        rows = {name: model_row(name) for name in ("a", "b'", "c")}
        store.upsert(list(rows.values()))
        assert store.fetch([]) == {}
        found = store.fetch(["c", "nothing", "b'", "c", "\ud800"])
        assert list(found.items()) == [("b'", rows["b'"]), ("c", rows["c"])]

    def test_what_changed_since_a_number_comes_in_the_order_of_numbers(self) -> None:
        """Of rows of one number by name; -1 gives all."""
        store = self.make()
        assert store.changed_since(-1) == []
        store.upsert([model_row("a", 3), model_row("b", 1), model_row("d", 2), model_row("c", 2)])
        assert [row.name for row in store.changed_since(-1)] == ["b", "c", "d", "a"]
        assert store.changed_since(2) == [model_row("a", 3)]
        store.upsert([model_row("b", 4)])
        assert store.changed_since(2) == [model_row("a", 3), model_row("b", 4)]
        assert store.changed_since(4) == []

    def test_upsert_replaces_what_is_there_and_adds_what_is_not(self) -> None:
        """The newer row wins whole."""
        store = self.make()
        store.upsert([model_row("a", 1), model_row("b", 1)])
        store.upsert([model_row("b", 2), model_row("c", 2)])
        assert store.fetch() == {"a": model_row("a", 1), "b": model_row("b", 2), "c": model_row("c", 2)}

    def test_delete_removes_those_and_ignores_unknown_names(self) -> None:
        """Others stay; a name may come again."""
        store = self.make()
        store.upsert([model_row("a"), model_row("b'"), model_row("c")])
        store.delete(["b'", "nothing", "a", "\ud800"])
        assert list(store.fetch()) == ["c"]
        store.upsert([model_row("a", 7)])
        assert store.fetch() == {"a": model_row("a", 7), "c": model_row("c")}

    def test_version_differs_after_a_write(self) -> None:
        """And stands still without one."""
        store = self.make()
        seen = [store.version()]
        store.upsert([])
        store.delete([])
        store.fetch()
        assert store.version() == seen[0]
        for seq in (1, 2, None):
            if seq is None:
                store.delete(["a"])
            else:
                store.upsert([model_row("a", seq)])
            assert store.version() not in seen
            seen.append(store.version())

    @pytest.mark.parametrize("second", ["a", "\ud800"])
    def test_a_doubled_or_unfit_name_is_refused_and_nothing_is_written(self, second: str) -> None:
        """All rows or none."""
        store = self.make()
        with pytest.raises(ValueError, match=r"twice|surrogate"):
            store.upsert([model_row("a"), model_row(second, 2)])
        assert store.fetch() == {}

    def test_maintenance_changes_no_answer(self) -> None:
        """Only perhaps the version."""
        store = self.make()
        for seq in range(4):
            store.upsert([model_row("a", seq), model_row(f"b{seq}", seq)])
            store.maintain()
        store.delete(["b0"])
        store.maintain()
        wanted = [model_row("a", 3), *(model_row(f"b{seq}", seq) for seq in range(1, 4))]
        assert list(store.fetch().values()) == wanted
