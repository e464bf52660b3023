"""Items: what is accepted, what is refused and how, and what the encoder reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.records.actions import DecodeRules
from recstream.records.item import Item, item_from, item_text, text_hash
from recstream.records.reject import Reject
from recstream.records.text import clean
from recstream.records.transport import Partition
from tests.support.strategies import Broken, Record, broken_items, items, json_values

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
    assert item.item_id == str(record["item_id"])
    assert item[-3:] == AT
    assert item.deleted is record.get("deleted", False)
    if not item.deleted:
        assert item.title == record["title"]


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
