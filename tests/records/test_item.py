"""Items: what is accepted, what is refused and how, and what the encoder reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.records.actions import DecodeRules
from recstream.records.checks import FLAGS, digits, flag
from recstream.records.item import Item, item_from, item_text, text_hash
from recstream.records.reject import Reject
from recstream.records.text import clean
from recstream.records.transport import Partition
from tests.support.strategies import Broken, Record, broken_items, items, json_values, odd_items

RULES = DecodeRules(dim=3)
AT = (Partition("items/0", "items/0@1"), 7, b"raw")


def accepted(record: object, rules: DecodeRules = RULES) -> Item:
    item = item_from(record, *AT, rules=rules)
    assert isinstance(item, Item), item
    return item


def refused(record: object, rules: DecodeRules = RULES) -> Reject:
    reject = item_from(record, *AT, rules=rules)
    assert isinstance(reject, Reject), reject
    return reject


@given(items(dim=3))
def test_sound_items_are_accepted(record: Record) -> None:
    item = accepted(record)
    assert item.item_id == digits(record["item_id"])
    assert item[-4:] == (*AT, ())
    assert item.deleted is flag(record.get("deleted"), "", absent=False)
    if not item.deleted:
        assert item.title == digits(record["title"])


@given(odd_items(RULES))
def test_what_is_optional_and_cannot_be_read_is_left_out_and_told(odd: Broken) -> None:
    """Nothing else of the item is another than without it; a text is cut, and readable labels stay."""
    item = accepted(odd.record)
    ((field, reason, detail),) = item.left_out
    assert (field, reason) == (odd.field, odd.reason)
    assert detail.startswith(odd.field)
    for part in (": got ", ", wanted ", "; "):
        assert part in detail
    assert "\n" not in detail
    assert len(detail) < 500
    plain = accepted(
        {name: value for name, value in odd.record.items() if name != odd.field or name == "title"}
    )
    same = [name for name in Item._fields if name not in (odd.field, "left_out", "vector")]
    assert [getattr(item, name) for name in same] == [getattr(plain, name) for name in same]
    if odd.field in ("published_at", "available"):
        assert getattr(item, odd.field) == getattr(plain, odd.field)
    if odd.field in ("categories", "tags") and isinstance(odd.record[odd.field], list):
        readable = [one for one in odd.record[odd.field] if isinstance(one, str) and len(one) < 513]
        assert list(getattr(item, odd.field)) == list(dict.fromkeys(readable))


@given(broken_items(RULES))
def test_one_fault_is_refused_and_its_detail_says_how_to_mend_it(broken: Broken) -> None:
    reject = refused(broken.record)
    assert reject.reason == broken.reason
    assert reject.detail.startswith(broken.field)
    assert ": got " in reject.detail
    assert ", wanted " in reject.detail
    assert "; " in reject.detail
    assert "\n" not in reject.detail
    assert len(reject.detail) < 500
    assert reject[2:] == AT


@given(json_values)
def test_any_json_value_ends_in_an_item_or_a_reject(value: object) -> None:
    assert isinstance(item_from(value, *AT, rules=RULES), (Item, Reject))


@given(st.dictionaries(st.sampled_from(["item_id", "title", *Item._fields, "attributes"]), json_values))
def test_any_values_in_the_named_fields_end_in_an_item_or_a_reject(record: Record) -> None:
    assert isinstance(item_from(record, *AT, rules=RULES), (Item, Reject))


def test_texts_and_labels_are_cleaned_and_a_single_label_is_a_list_of_one() -> None:
    item = accepted(
        {
            "item_id": "i1",
            "title": " <b>Tea</b> ",
            "text": "<p> </p>",
            "categories": ["Hot &amp; cold", "", "Hot & cold", "x"],
            "tags": "leaf",
        }
    )
    assert item.title == "Tea"
    assert item.text is None
    assert item.categories == ("Hot & cold", "x")
    assert item.tags == ("leaf",)
    assert item.available
    assert item.published_at is None


@given(st.lists(st.integers() | st.floats(-1e6, 1e6) | st.none() | st.sampled_from(["a", "7"]), max_size=8))
def test_numbers_are_labels(labels: list[Any]) -> None:
    item = accepted(
        {"item_id": "i1", "title": 1984, "categories": labels, "tags": labels[0] if labels else 3.0}
    )
    assert item.title == "1984"
    assert item.left_out == ()
    assert list(item.categories) == list(dict.fromkeys(digits(one) for one in labels if one is not None))


@given(st.text(st.characters(), min_size=1, max_size=3).filter(clean), st.integers(4, 60))
def test_a_text_of_any_length_keeps_its_item_and_is_cut_between_characters(text: str, most: int) -> None:
    rules = DecodeRules(max_text_bytes=most, max_item_text_bytes=2 * most)
    item = item_from({"item_id": "i", "title": "t" + text * 40, "text": text * 40}, *AT, rules=rules)
    assert isinstance(item, Item)
    for cut, given_, bound in ((item.title, "t" + text * 40, most), (item.text or "", text * 40, 2 * most)):
        whole = clean(given_)
        assert len(cut.encode()) <= bound
        assert clean(cut) == cut
        assert cut == whole or len(whole.encode()) > bound
    assert {one.reason for one in item.left_out} <= {"too_large"}


@pytest.mark.parametrize("word", [*FLAGS, True, False, 1, 0, 1.0, 0.0])
def test_a_flag_is_read_as_databases_and_spreadsheets_write_it(word: Any) -> None:
    wanted = FLAGS.get(word, bool(word)) if isinstance(word, str) else bool(word)
    assert accepted({"item_id": "i", "title": "t", "available": word}).available is wanted
    assert accepted({"item_id": "i", "title": "t", "deleted": word}).deleted is wanted


def test_whether_an_item_is_deleted_is_never_guessed() -> None:
    """Were it left out, an item that somebody may have deleted would come back."""
    assert refused({"item_id": "i", "title": "t", "deleted": "soon"}).reason == "bad_type"
    blank = accepted({"item_id": "i", "title": "t", "deleted": "", "available": " "})
    assert (blank.deleted, blank.available, blank.left_out) == (False, True, ())


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        ({"itemId": 5, "title": "Tea"}, "rename 'itemId' to 'item_id'"),
        ({"id": 5, "name": "Tea"}, "rename 'id' to 'item_id', 'name' to 'title'"),
        ({"item_id": 5, "product_name": "Tea"}, "rename 'product_name' to 'title'"),
        ({"schema": None, "payload": {"item_id": 5}}, "Connect envelope"),
        ({"op": "u", "before": {}, "after": {}}, "Debezium change event"),
        ({"items": [{"item_id": 5}]}, "a batch: send each object of 'items'"),
    ],
)
def test_an_item_of_another_system_is_told_what_it_is(record: Record, advice: str) -> None:
    assert advice in refused(record).detail


def test_of_a_deleted_item_only_the_id_is_read() -> None:
    item = accepted({"item_id": "i1", "deleted": True, "title": 3, "published_at": "soon"})
    assert (item.deleted, item.available, item.title) == (True, False, "")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2004-01-01", 1072915200.0),
        ("1969-12-31", -86400.0),
        ("0001-01-01", -62135596800.0),
        ("2004-01-01T00:00:00Z", 1072915200.0),
        (-14182940, -14182940.0),
        (4102444800, 4102444800.0),
        (None, None),
    ],
)
def test_a_day_of_publication_may_be_a_bare_date_past_or_future(
    written: object, seconds: float | None
) -> None:
    assert accepted({"item_id": "i", "title": "t", "published_at": written}).published_at == seconds


def test_a_vector_gets_unit_length_however_great_or_small_it_is() -> None:
    for factor in (1, 1e-300, 1e300, 5e-324):
        vector = accepted({"item_id": "i", "title": "t", "vector": [factor, 0, -factor]}).vector
        assert vector is not None
        assert vector.dtype == np.float32
        assert not vector.flags.writeable
        np.testing.assert_allclose(vector, [0.5**0.5, 0, -(0.5**0.5)], rtol=1e-6)


def test_without_a_dim_no_vector_is_accepted() -> None:
    reject = refused({"item_id": "i", "title": "t", "vector": [1.0]}, DecodeRules())
    assert reject.reason == "bad_vector"
    assert "leave it out" in reject.detail


@pytest.mark.parametrize("value", [None, [], "i1", 3, True])
def test_what_is_no_object_is_refused(value: Any) -> None:
    assert refused(value).reason == "not_an_object"


@given(items())
def test_the_encoders_text_is_clean_and_holds_every_part(record: Record) -> None:
    item = accepted(record)
    text = item_text(item)
    assert text == clean(text)
    for part in (item.title, *item.categories, *item.tags, item.text or ""):
        assert part in text


def test_the_template_has_not_changed() -> None:
    """A change of these bytes orphans every vector in every store: then TEMPLATE changes too."""
    item = accepted(
        {"item_id": "i", "title": "Tea", "categories": ["a", "b"], "tags": ["c."], "text": "Dark"}
    )
    assert item_text(item) == "Tea. Categories: a, b. Tags: c. Dark"
    assert text_hash(item_text(item)) == "dff61f5d62e7b33b8c8a20cb05b22e5b"
