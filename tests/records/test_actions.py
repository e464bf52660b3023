"""What an action says of its item: whether lists leave it out from then on."""

from __future__ import annotations

import pytest

from recstream.ranking.recommender import rank
from recstream.records.actions import DecodeRules, actions_with
from recstream.users.state import UserState
from tests.support.builders import catalogue_of, event, popular, query
from tests.support.rules import ranking_rules, user_state_rules


@pytest.mark.parametrize(("seen", "listed"), [({}, {"i1"}), ({"favorite": False}, {"i0", "i1"})])
def test_a_setting_says_whether_an_action_takes_its_item_off_the_lists(
    seen: dict[str, bool], listed: set[str]
) -> None:
    rules = user_state_rules(DecodeRules(actions=actions_with({}, seen)))
    catalogue = catalogue_of(["i0", "i1"])
    user_state = UserState("u1")
    user_state.observe(event(1.0, "favorite", "i0"), catalogue, rules, 0.0)
    (ranked,) = rank([query(user_state)], catalogue, popular({0: 2, 1: 1}), ranking_rules())
    assert {catalogue.ids[one.item] for one in ranked} == listed


def test_what_no_item_can_be_seen_by_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'favorit' is no action: .*; search: nobody has seen an item by it"
    ):
        actions_with({}, {"favorit": False, "search": True})
