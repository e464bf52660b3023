"""Rules as the default settings have them, with the fields that a test names replaced.

Other than in a job: what users have seen is left out of lists, and learning has no limit of time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recstream.config import Settings
from recstream.dataflow.services import DataflowRules, IdleRefreshRules
from recstream.ranking.online_learning import LearningRules
from recstream.ranking.recommender import RankingRules
from recstream.ranking.signals.table import default_weights
from recstream.records.actions import DecodeRules
from recstream.records.reject_limit import RejectLimitRules
from recstream.runtime import wiring
from recstream.users.state import UserStateRules

__all__ = [
    "dataflow_rules",
    "idle_refresh_rules",
    "learning_rules",
    "ranking_rules",
    "reject_limit_rules",
    "user_state_rules",
]

_DEFAULT = wiring.dataflow_rules(Settings(), dim=0)


def user_state_rules(decode: DecodeRules | None = None, **changes: Any) -> UserStateRules:
    """Bounds of a user's state."""
    return replace(_DEFAULT.user_state, decode=DecodeRules() if decode is None else decode, **changes)


def ranking_rules(**changes: Any) -> RankingRules:
    """How lists are made, with the default weights of the signals there are now."""
    return replace(_DEFAULT.ranking, **{"repeats": False, "weights": default_weights(), **changes})


def learning_rules(**changes: Any) -> LearningRules:
    """How much is learned."""
    return replace(_DEFAULT.learning, **{"time_share": None, **changes})


def reject_limit_rules(**changes: Any) -> RejectLimitRules:
    """How many rejects stop a stream."""
    return replace(_DEFAULT.reject_limit, **changes)


def idle_refresh_rules(**changes: Any) -> IdleRefreshRules:
    """Whose lists are refreshed while nothing comes of their users."""
    assert _DEFAULT.idle_refresh is not None
    return replace(_DEFAULT.idle_refresh, **{"lists_per_event": 1.0, **changes})


def dataflow_rules(**changes: Any) -> DataflowRules:
    """When things happen: a lone worker that makes lists of five, and refreshes none of idle users."""
    own = {
        "user_state": user_state_rules(),
        "ranking": ranking_rules(top_n=5),
        "learning": learning_rules(),
        "idle_refresh": None,
    }
    return replace(_DEFAULT, **{**own, **changes})
