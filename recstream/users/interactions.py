"""Which events item statistics learn from, and what."""

from __future__ import annotations

from recstream.items.statistics import Interaction
from recstream.ranking.query import RECENT_ITEMS
from recstream.records.actions import TRAITS, DecodeRules
from recstream.records.event import Event
from recstream.users.state import UserState

__all__ = ["interactions_of", "is_engagement"]


def is_engagement(event: Event, rules: DecodeRules) -> bool:
    """Whether the user chose the event's item, whatever they think of it, rather than turned away from it."""
    action = rules.actions[event.action]
    return event.item_id is not None and TRAITS[action.kind].is_choice and action.weight >= 0.0


def interactions_of(event: Event, item: int, user_state: UserState, rules: DecodeRules) -> list[Interaction]:
    """What an event that was just applied teaches: its item, with the user's other latest ones, newest first.

    Nothing, where the user was only shown the item or turned away from it.
    """
    if not is_engagement(event, rules):
        return []
    others = [other for other in user_state.engaged(RECENT_ITEMS + 1) if other != item]
    return [Interaction(item, tuple(others[:RECENT_ITEMS]))]
