"""What people do is seen in their very next list: through a whole worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recstream.items.statistics import Interaction
from recstream.items.terms import pack, text_terms
from recstream.records.arrays import Vector
from tests.support.builders import WorkerHarness, decoded, event, item_row, unit
from tests.support.rules import learning_rules, ranking_rules

GENRES = ("jazz", "war", "tea", "law")
EACH = 10


def near(genre: str, by: str) -> Vector:
    vector = 2 * unit(genre) + unit(by)
    row: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return row


def genre_item(genre: str, name: str, **more: Any) -> Any:
    words = pack(text_terms(f"{genre} {name}"))
    return item_row(name, vector=near(genre, name), categories=(genre,), terms=words)._replace(**more)


def warm(top_n: int = len(GENRES) * EACH, *, of_text_only: bool = False) -> WorkerHarness:
    """A worker that knows ten items of each genre, every one of which somebody has touched."""
    # As it starts: a handful of users would teach it their own habits.
    harness = WorkerHarness(ranking=ranking_rules(top_n=top_n), learning=learning_rules(enabled=False))
    for genre in GENRES:
        for k in range(EACH):
            bare = {"categories": (), "terms": b""} if of_text_only else {}
            harness.worker.replica.put(genre_item(genre, f"{genre}{k}", **bare))
    harness.count([Interaction(handle, ()) for handle in range(len(GENRES) * EACH)])
    return harness


class Reader:
    """A user, and the list after each of their events."""

    def __init__(self, harness: WorkerHarness, user: str = "u1") -> None:
        self.harness = harness
        self.user = user
        self.ts = 0.0

    def does(
        self, action: str, item_id: str | None = None, *, text: str | None = None
    ) -> list[dict[str, Any]]:
        """One event, then a request."""
        self.ts += 1.0
        self.harness.step(event(self.ts, action, item_id, text=text, user=self.user, offset=int(2 * self.ts)))
        asked = self.harness.step(event(self.ts, "request", user=self.user, offset=int(2 * self.ts) + 1))
        (made,) = self.harness.worker.rank(asked.queries)
        items: list[dict[str, Any]] = decoded(made.value)["items"]
        return items


def share_of(items: list[dict[str, Any]], genre: str, most: int = 10) -> float:
    names = [str(one["item_id"]) for one in items[:most]]
    return sum(name.startswith(genre) for name in names) / len(names)


def lead_of(items: list[dict[str, Any]], genre: str) -> float:
    """How far a genre's scores are above those of the others, in the mean."""
    mine, others = (
        [one["score"] for one in items if one["item_id"].startswith(genre) is is_mine]
        for is_mine in (True, False)
    )
    return float(np.mean(mine)) - float(np.mean(others))


@pytest.mark.parametrize("action", ["dislike", "hide", "skip"])
def test_turning_away_takes_from_the_lead_of_the_items_kind(action: str) -> None:
    reader = Reader(warm())
    for genre in ("law", "tea", "war"):
        before = reader.does("view", f"{genre}0")
    after = reader.does(action, "war1")
    assert lead_of(after, "war") < lead_of(before, "war") - 0.1


@pytest.mark.parametrize("action", ["dislike", "hide", "skip"])
def test_where_texts_decide_turning_away_takes_the_items_kind_off_the_list(action: str) -> None:
    reader = Reader(warm(10, of_text_only=True))
    before = reader.does("view", "tea0")
    before = reader.does("view", "war0")
    after = reader.does(action, "war1")
    assert share_of(before, "war") >= 0.5
    assert share_of(after, "war") <= share_of(before, "war") - 0.2


def test_what_was_turned_away_from_goes_down_with_what_others_take_with_it() -> None:
    """Though its text says nothing against it."""
    harness = warm()
    catalogue = harness.worker.replica.catalogue
    bad, with_it = catalogue.handle("war1") or 0, catalogue.handle("jazz5") or 0
    harness.count([Interaction(with_it, (bad,))] * 20)
    reader = Reader(harness)
    before, after = reader.does("view", "jazz0"), reader.does("dislike", "war1")
    fall = {one["item_id"]: one["score"] for one in before}
    for one in after:
        fall[one["item_id"]] -= one["score"]
    assert fall["jazz5"] > max(fall[f"jazz{k}"] for k in (1, 2, 3, 4, 6, 7, 8, 9)) + 0.1


def test_an_item_that_was_shown_and_passed_over_goes_down() -> None:
    one, other = Reader(warm()), Reader(warm())
    for reader in (one, other):
        first = reader.does("view", "tea0")
    top = first[0]["item_id"]
    one.does("impression", top)
    shown, unshown = (
        {x["item_id"]: x["score"] for x in reader.does("view", "law0")} for reader in (one, other)
    )
    assert shown[top] < unshown[top] - 0.05
    rest = shown.keys() - {top}
    assert [shown[name] for name in rest] == pytest.approx([unshown[name] for name in rest], abs=1e-4)
    assert top in shown


def test_an_item_shown_and_then_taken_is_not_held_against_its_like() -> None:
    one, other = Reader(warm()), Reader(warm())
    one.does("impression", "tea0")
    other.ts = one.ts
    shown, unshown = (
        {x["item_id"]: x["score"] for x in reader.does("view", "tea0")} for reader in (one, other)
    )
    assert shown == pytest.approx(unshown, abs=1e-5)


@pytest.mark.parametrize("genre", GENRES)
def test_a_cold_users_first_event_makes_the_list(genre: str) -> None:
    items = Reader(warm(9)).does("view", f"{genre}0")
    assert share_of(items, genre, 9) == 1.0
    assert all(one["because"] == [f"{genre}0"] for one in items)


@pytest.mark.parametrize("genre", GENRES)
def test_a_cold_users_first_words_make_the_list(genre: str) -> None:
    items = Reader(warm(10)).does("search", text=genre)
    assert share_of(items, genre, 10) == 1.0
    assert all("words" in one["signals"] and one["because"] == [] for one in items)


def test_words_count_at_once_and_less_as_items_follow() -> None:
    reader = Reader(warm())
    for k in range(3):
        before = reader.does("view", f"war{k}")
    said = reader.does("search", text="tea")
    assert share_of(said, "tea") > share_of(before, "tea")
    assert lead_of(said, "tea") > lead_of(before, "tea") + 1.0
    for k in range(3, 8):
        later = reader.does("view", f"war{k}")
    assert lead_of(later, "tea") < lead_of(said, "tea") - 0.5


def test_a_new_item_is_found_by_its_text_in_the_very_next_list() -> None:
    harness = warm(10)
    reader = Reader(harness)
    reader.does("view", "tea0")
    harness.worker.replica.put(genre_item("tea", "brand new"))
    harness.worker.replica.put(genre_item("law", "also new"))
    items = [one["item_id"] for one in reader.does("view", "tea1")]
    assert "brand new" in items
    assert "also new" not in items[:3]


@pytest.mark.parametrize(
    "lacks",
    [
        {"categories": (), "terms": b""},
        {"categories": ("never heard of",)},
        {"vector": np.zeros(8, np.float32)},
    ],
    ids=["labels and words", "a label others have", "a text"],
)
def test_an_item_that_lacks_something_ranks_by_the_rest(lacks: dict[str, Any]) -> None:
    harness = warm(60)
    for genre in ("tea", "law"):
        harness.worker.replica.put(genre_item(genre, f"{genre} lacking", **lacks))
    scores = {one["item_id"]: one["score"] for one in Reader(harness).does("view", "tea0")}
    assert scores["tea lacking"] > scores.get("law lacking", 0.0) + 0.1
