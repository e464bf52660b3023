"""What ranking needs of one user, copied from the user's state."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.ranking.kernels.structs import RECENCY_WEIGHTS
from recstream.ranking.signals.table import SIGNALS
from recstream.records.actions import OPINIONS
from recstream.records.arrays import Handles, Vector
from recstream.records.recommendation import Trigger
from recstream.users.sessions import NO_ITEM
from recstream.users.state import DAY_S, RECENT_ITEMS, VISIT_BITS, AsOf, UserState

__all__ = ["ItemHistory", "Query", "query_of"]

_DISLIKED_ITEMS: Final = 5
"""How many of the last items that the user turned away from count."""
_DISLIKE_WEIGHT: Final = 2.0
"""Weight of an action, below 0, that counts as a full dislike."""
_PASSED_OVER_ITEMS: Final = 50
"""How many of the items shown last may count as passed over."""
_PLACE_WEIGHTS: Final = tuple(RECENCY_WEIGHTS[:RECENT_ITEMS].tolist())


class ItemHistory(NamedTuple):
    """When and how often a user dealt with items. One entry is an event, or all with an item on one day."""

    items: Handles
    """Handle of each entry's item."""
    times: npt.NDArray[np.float64]
    """Event time of each entry, Unix seconds; the beginning of the day if it is all of one day."""
    counts: npt.NDArray[np.float64]
    """Number of events of each entry."""


class Query(NamedTuple):
    """What ranking needs of one user. Later events do not change it."""

    user_id: str
    version: int
    as_of: AsOf
    trigger: Trigger
    received_at: float
    """When the event that asks for this list was read, Unix seconds."""
    recent: Handles
    """Items engaged with, newest first, distinct, at most `RECENT_ITEMS`."""
    recent_weights: npt.NDArray[np.float32]
    """What each of them weighs in the short term: by place, and by the action's weight."""
    words: Vector | None
    """Weighted sum of the encoded words among the recent events, ``words_weight`` the sum of its weights."""
    long_term: Vector | None
    """Decayed sum, with ``long_term_weight`` the sum of its weights."""
    long_term_weight: float
    disliked: Vector | None
    disliked_weight: float
    hidden: Handles
    """Never to be shown."""
    excluded: Handles
    """Hidden and seen items."""
    words_weight: float
    disliked_items: Handles
    """Items the user turned away from, newest first, distinct."""
    dislike_strength: float
    """How decidedly, 0 to 1: a dislike is 1."""
    history: ItemHistory
    """All that is known of the user's own items, but for those that they turned away from last."""
    passed_over: Handles
    """Items shown to the user and not touched since."""
    captured: Mapping[str, Any]
    """What signals with a ``capture`` took of the user, by the signal's name."""


def query_of(user_state: UserState, as_of: AsOf, trigger: Trigger, received_at: float) -> Query:
    """Copy what ranking needs of a user, so that it stays true to ``user_state.version``."""
    items: dict[int, float] = {}
    disliked_items: dict[int, float] = {}
    turned_away: set[int] = set()
    chosen: set[int] = set()
    unseen: list[tuple[int, float]] = []
    words: Vector | None = None
    words_weight = 0.0
    words_found = 0
    for place, entry in enumerate(reversed(user_state.recent)):
        if entry.weight < 0.0 and entry.action not in OPINIONS:
            if entry.item != NO_ITEM and len(disliked_items) < _DISLIKED_ITEMS and entry.item not in items:
                disliked_items.setdefault(entry.item, min(-entry.weight / _DISLIKE_WEIGHT, 1.0))
            if entry.item not in chosen:
                turned_away.add(entry.item)
            continue
        if entry.item != NO_ITEM:
            chosen.add(entry.item)
            if entry.item not in user_state.seen:  # its action does not say that the user knows it
                unseen.append((entry.item, entry.ts))
        if len(items) == RECENT_ITEMS or place >= 2 * RECENT_ITEMS:
            continue
        # A rating at the middle of its scale, or below, says "engaged with", if nothing about liking.
        weight = _PLACE_WEIGHTS[len(items)] * min(max(entry.weight, 0.5), 3.0)
        if entry.item != NO_ITEM:
            items.setdefault(entry.item, weight)
        elif entry.digest in user_state.words:
            weight *= 0.5**words_found  # the newest words count in full, each earlier ones half as much
            words_found += 1
            part = np.float32(weight) * user_state.words[entry.digest]
            words = part if words is None else words + part
            words_weight += weight
    hidden = np.fromiter(user_state.hidden, np.int32, len(user_state.hidden))
    seen = np.fromiter(user_state.seen, np.int32, len(user_state.seen))
    long_term, disliked = user_state.long_term, user_state.disliked
    return Query(
        user_id=user_state.user_id,
        version=user_state.version,
        as_of=as_of,
        trigger=trigger,
        received_at=received_at,
        recent=np.fromiter(items, np.int32, len(items)),
        recent_weights=np.fromiter(items.values(), np.float32, len(items)),
        words=words,
        long_term=None if long_term is None else long_term.total.astype(np.float32),
        long_term_weight=0.0 if long_term is None else long_term.weight,
        disliked=None if disliked is None else disliked.total.astype(np.float32),
        disliked_weight=0.0 if disliked is None else disliked.weight,
        hidden=hidden,
        excluded=np.concatenate([seen, hidden]),
        words_weight=words_weight,
        disliked_items=np.fromiter(disliked_items, np.int32, len(disliked_items)),
        dislike_strength=max(disliked_items.values(), default=0.0),
        history=_history(user_state, seen, unseen, turned_away),
        passed_over=_passed_over(user_state),
        captured={
            name: signal.capture(user_state) for name, signal in SIGNALS.items() if signal.capture is not None
        },
    )


def _history(
    user_state: UserState, seen: Handles, unseen: Sequence[tuple[int, float]], turned_away: Collection[int]
) -> ItemHistory:
    newest = np.fromiter(user_state.seen.values(), np.float64, len(seen))
    items, times, counts = [seen], [newest], [np.ones(len(seen))]
    if user_state.earlier:
        keys = np.fromiter(user_state.earlier, np.int64, len(user_state.earlier))
        items.append((keys & ((1 << VISIT_BITS) - 1)).astype(np.int32))
        times.append(np.multiply(keys >> VISIT_BITS, DAY_S, dtype=np.float64))
        counts.append(np.fromiter(user_state.earlier.values(), np.float64, len(keys)))
    if unseen:
        items.append(np.array([item for item, _ in unseen], np.int32))
        times.append(np.array([ts for _, ts in unseen]))
        counts.append(np.ones(len(unseen)))
    history = ItemHistory(np.concatenate(items), np.concatenate(times), np.concatenate(counts))
    if not turned_away:
        return history
    is_kept = ~np.isin(history.items, list(turned_away))
    return ItemHistory(history.items[is_kept], history.times[is_kept], history.counts[is_kept])


def _passed_over(user_state: UserState) -> Handles:
    newest = sorted(user_state.shown.items(), key=lambda one: -one[1])[:_PASSED_OVER_ITEMS]
    passed = [item for item, ts in newest if user_state.seen.get(item, -math.inf) < ts]
    return np.array(passed, np.int32)
