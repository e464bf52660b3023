"""Actions of users and their weights, and the rules by which records are accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

__all__ = [
    "DEFAULT_ACTIONS",
    "MAX_ID_BYTES",
    "OPINIONS",
    "TRAITS",
    "Action",
    "DecodeRules",
    "Kind",
    "KindTraits",
    "actions_with",
]

Kind = Literal["item", "rating", "comment", "search", "hide", "impression", "request", "forget"]
"""What is done with an event: see `TRAITS`, and for its effect on a state `recstream.users.state`."""


class KindTraits(NamedTuple):
    """What all actions of a kind have in common. Whatever asks for an action's kind asks here."""

    effect: Literal["state", "list", "erasure"] = "state"
    """What an event changes. ``"state"``: its user's state, as `recstream.users.state` has it; ``"list"``:
    nothing, it only asks for a list; ``"erasure"``: the user is erased, and only user, time and event id are
    read."""
    needs_item: bool = False
    """Whether the event names an item that it acts on. An item named by other kinds has no effect."""
    needs_text: bool = False
    rating: Literal["ignored", "optional", "needed"] = "ignored"
    is_opinion: bool = False
    """Whether the event says what the user thinks of the item. Then the weight is signed and scaled by the
    rating or the tone, and even a low one says that they chose the item once."""
    is_choice: bool = False
    """Whether the user chose the item, unless the weight is negative. Item statistics count it, and the
    ranking model learns from it."""
    meets_item: bool = False
    """Whether the user has dealt with the item itself. Then `Action.seen` says whether they know it."""
    asks_for_list: bool = True
    """Whether a fresh list is due once the event is applied."""


TRAITS: Final[Mapping[Kind, KindTraits]] = {
    # the item moves the user's taste by the action's weight
    "item": KindTraits(needs_item=True, is_choice=True, meets_item=True),
    # as `item`, signed and scaled by the rating
    "rating": KindTraits(needs_item=True, rating="needed", is_opinion=True, is_choice=True, meets_item=True),
    # as `item`, signed by rating or tone; the text counts too
    "comment": KindTraits(
        needs_item=True, needs_text=True, rating="optional", is_opinion=True, is_choice=True, meets_item=True
    ),
    # the text moves the short-term taste only
    "search": KindTraits(needs_text=True),
    # as `item`, and the item is never shown again
    "hide": KindTraits(needs_item=True, meets_item=True),
    # the item counts as shown
    "impression": KindTraits(needs_item=True, asks_for_list=False),
    # a fresh list leaves at once; nothing is learned
    "request": KindTraits(effect="list"),
    # the user is erased
    "forget": KindTraits(effect="erasure", asks_for_list=False),
}

MAX_ID_BYTES: Final = 512
"""Longest user, item or event id, in UTF-8."""


class Action(NamedTuple):
    """One thing people do."""

    name: str
    weight: float
    """Weight of the event's item (or text) in the user's taste; negative pushes away."""
    kind: Kind
    seen: bool
    """Whether the user has seen the item by then, so that lists may leave it out."""


DEFAULT_ACTIONS: Final[Mapping[str, Action]] = {
    action.name: action
    for action in (
        Action("view", 1.0, "item", seen=True),
        Action("click", 1.0, "item", seen=True),
        Action("play", 1.0, "item", seen=True),
        Action("like", 2.0, "item", seen=True),
        Action("favorite", 3.0, "item", seen=True),
        Action("share", 3.0, "item", seen=True),
        Action("cart", 3.0, "item", seen=True),
        Action("purchase", 5.0, "item", seen=True),
        Action("rate", 2.0, "rating", seen=True),
        Action("search", 1.0, "search", seen=False),
        Action("comment", 1.0, "comment", seen=True),
        Action("skip", -0.5, "item", seen=False),
        Action("dislike", -2.0, "item", seen=True),
        Action("hide", -3.0, "hide", seen=True),
        Action("impression", 0.0, "impression", seen=False),
        Action("request", 0.0, "request", seen=False),
        Action("forget", 0.0, "forget", seen=False),
    )
}
"""The actions that need no setting, by name. The weight of ``rate`` is what the top rating is worth."""

OPINIONS: Final = frozenset(a.name for a in DEFAULT_ACTIONS.values() if TRAITS[a.kind].is_opinion)
"""Names of the actions that tell what a user thinks of an item."""


def actions_with(weights: Mapping[str, float], seen: Mapping[str, bool] | None = None) -> dict[str, Action]:
    """Give the default actions with other weights, and further item actions under new names.

    A new action counts as seeing the item unless its weight is negative, or ``seen`` says otherwise of it.

    Raises:
        ValueError: a name is blank, a weight is not finite, or it is given to ``request`` or ``forget``,
            which teach nothing; ``seen`` names an action that there is not, or one without an item. All
            problems are named at once.

    >>> mine = actions_with({"view": 0.5, "wishlist": 2.5})
    >>> mine["view"].weight, mine["wishlist"], len(mine) - len(DEFAULT_ACTIONS)
    (0.5, Action(name='wishlist', weight=2.5, kind='item', seen=True), 1)
    """
    actions = dict(DEFAULT_ACTIONS)
    problems: list[str] = []
    for name, weight in weights.items():
        known = actions.get(name)
        if not name.strip():
            problems.append(f"{name!r} is no name for an action")
        elif isinstance(weight, bool) or not math.isfinite(weight):
            problems.append(f"{name}: weight {weight!r} is not a finite number")
        elif known is None:
            actions[name] = Action(name, float(weight), "item", seen=weight >= 0)
        elif TRAITS[known.kind].effect != "state":
            problems.append(f"{name}: nothing is learned from it, so it takes no weight")
        else:
            actions[name] = known._replace(weight=float(weight))
    for name, is_seen in (seen or {}).items():
        if name not in actions:
            problems.append(f"{name!r} is no action: wanted one of {', '.join(actions)}")
        elif not TRAITS[actions[name].kind].meets_item:
            problems.append(f"{name}: nobody has seen an item by it")
        else:
            actions[name] = actions[name]._replace(seen=is_seen)
    if problems:
        msg = "; ".join(problems)
        raise ValueError(msg)
    return actions


@dataclass(frozen=True)
class DecodeRules:
    """Rules that decide, with the clock, whether a record is accepted.

    Raises:
        ValueError: a bound is not positive, or the rating scale is not two growing finite numbers.

    >>> DecodeRules(rating_scale=(0, 10)).centred(7.5)
    0.5
    """

    actions: Mapping[str, Action] = field(default_factory=lambda: dict(DEFAULT_ACTIONS))
    """By name."""
    rating_scale: tuple[float, float] = (1.0, 5.0)
    """Lowest and highest rating, both allowed."""
    max_text_bytes: int = 8192
    """Longest ``text`` of an event, in UTF-8, before cleaning, and ``title`` of an item, after it."""
    max_item_text_bytes: int = 65536
    """Longest ``text`` of an item, in UTF-8, after cleaning. Titles and texts of items are cut there."""
    max_labels: int = 256
    """Most ``categories``, and most ``tags``, of one item: the first are kept."""
    max_record_bytes: int = 262144
    """Longest record as read, in bytes."""
    future_tolerance_s: float = 300.0
    """Seconds by which an event may lie ahead of the reader's clock."""
    dim: int = 0
    """Length of the vector that an item record may hold; 0 accepts none."""

    def __post_init__(self) -> None:
        low, high = self.rating_scale
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            msg = f"rating_scale {self.rating_scale}: want two finite numbers, the lower one first"
            raise ValueError(msg)
        for name in ("max_text_bytes", "max_item_text_bytes", "max_labels", "max_record_bytes"):
            if getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)}: must be at least 1"
                raise ValueError(msg)
        if not self.future_tolerance_s >= 0 or self.dim < 0:
            msg = f"future_tolerance_s={self.future_tolerance_s}, dim={self.dim}: must not be negative"
            raise ValueError(msg)
        for name, action in self.actions.items():
            if name != action.name:
                msg = f"action {action.name!r} is filed under {name!r}"
                raise ValueError(msg)

    def centred(self, rating: float) -> float:
        """Map a rating to -1 (worst of the scale) through 0 (its midpoint) to 1 (best)."""
        low, high = self.rating_scale
        return (2.0 * rating - low - high) / (high - low)
