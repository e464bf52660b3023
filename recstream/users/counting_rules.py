"""Counting rules: the settings that stored user states depend on, as a text that the store keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from recstream.records.actions import Action

__all__ = ["Change", "changes", "counting_rules"]

_ACTIONS: Final = "events.actions."


class Change(NamedTuple):
    """One rule that differs from what the store was made with.

    >>> str(Change("events.rating_max", 5.0, 10.0))
    'events.rating_max was 5.0, is 10.0'
    >>> str(Change("events.actions.wishlist", [2.5, "item", True], None))
    'events.actions.wishlist was 2.5, is no action any more'
    """

    name: str
    """Name of the setting: ``"events.actions.like"``, ``"profile.half_life_days"``."""
    was: Any
    """Value in the store; None: there was no such rule. Of an action: its weight, its kind, whether the item
    counts as seen."""
    now: Any
    """Value in the settings, likewise; None: there is no such rule any more."""

    @property
    def is_new_action(self) -> bool:
        """Whether an action was added. No event can have been counted with it."""
        return self.was is None and self.name.startswith(_ACTIONS)

    @property
    def setting_back(self) -> str:
        """The setting that makes the rule what it was."""
        if self.was is None:
            return f"no {self.name}"
        return f"{self.name} = {self.was[0] if isinstance(self.was, list) else self.was}"

    def __str__(self) -> str:
        was, now = self.was, self.now
        if isinstance(was, list) and isinstance(now, list) and was[1:] == now[1:]:
            was, now = was[0], now[0]
        elif isinstance(was, list) and now is None:
            was = was[0]
        nothing = "no action any more" if self.name.startswith(_ACTIONS) else "no rule any more"
        return f"{self.name} was {'not there' if was is None else was}, is {nothing if now is None else now}"


def counting_rules(
    actions: Mapping[str, Action], rating_scale: tuple[float, float], half_life_days: float
) -> str:
    """Write the rules that a stored state depends on, always in the same form (JSON with sorted keys).

    Bounds (how many events, seen items or neighbours are kept) are left out: they may change freely.

    >>> counting_rules({"view": Action("view", 1.0, "item", seen=True)}, (1, 5), 30)[:55]
    '{"events.actions.view":[1.0,"item",true],"events.rating'
    """
    rules: dict[str, Any] = {
        _ACTIONS + action.name: [float(action.weight), action.kind, action.seen]
        for action in actions.values()
    }
    rules["events.rating_min"], rules["events.rating_max"] = map(float, rating_scale)
    rules["profile.half_life_days"] = float(half_life_days)
    return json.dumps(rules, sort_keys=True, separators=(",", ":"))


def changes(stored: str, wanted: str) -> Iterator[Change]:
    """Give the rules that differ between two texts of `counting_rules`, in order of their names.

    >>> [change.name for change in changes('{"a":1.0,"b":2.0}', '{"a":1.0,"b":3.0,"c":1.0}')]
    ['b', 'c']
    """
    was: dict[str, Any] = json.loads(stored)
    now: dict[str, Any] = json.loads(wanted)
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield Change(name, was.get(name), now.get(name))
