"""Which events item statistics learn from, and what."""

from __future__ import annotations

from recstream.core.events import Event
from recstream.core.profile import Profile
from recstream.core.rules import DecodeRules
from recstream.core.signals import RECENT_ITEMS
from recstream.core.statistics import Touch

__all__ = ["is_engagement", "touches_of"]


def is_engagement(event: Event, rules: DecodeRules) -> bool:
    """Whether the user chose the event's item, whatever they think of it, rather than turned away from it."""
    action = rules.actions[event.action]
    return event.item_id is not None and action.kind in ("item", "rating", "comment") and action.weight >= 0.0


def touches_of(event: Event, item: int, profile: Profile, rules: DecodeRules) -> list[Touch]:
    """What an event that was just applied teaches: its item, with the user's other latest ones, newest first.

    Nothing, where the user was only shown the item or turned away from it.
    """
    if not is_engagement(event, rules):
        return []
    others = [other for other in profile.engaged(RECENT_ITEMS + 1) if other != item]
    return [Touch(item, tuple(others[:RECENT_ITEMS]))]
