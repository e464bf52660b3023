"""What a worker learns from events: the model's weights before an event counts, interactions after."""

from __future__ import annotations

from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.items.statistics import Interaction
from recstream.ranking.online_learning import OnlineLearner
from recstream.ranking.recommender import Recommender
from recstream.records.event import Event, is_engagement
from recstream.users.state import UserState, UserStateRules

__all__ = ["EventLearning"]


class EventLearning:
    """Passes what users choose on to the model, the session index and the item statistics."""

    def __init__(
        self,
        learner: OnlineLearner,
        recommender: Recommender,
        replica: CatalogueReplica,
        rules: UserStateRules,
    ) -> None:
        self._learner = learner
        self._sessions = recommender.sessions
        self._catalogue = replica.catalogue
        self._statistics = replica.statistics
        self._rules = rules

    def before(self, event: Event, user_state: UserState) -> None:
        """Let the model learn from a choice, by the state and the catalogue as they are without the event."""
        if is_engagement(event, self._rules.decode):
            item = self._catalogue.handle(event.item_id or "")
            if item is not None:
                self._learner.offer(event, item, user_state)

    def after(self, event: Event, item: int, user_state: UserState) -> list[Interaction]:
        """Give what item statistics are to count of an event that was just applied."""
        interactions = user_state.interactions(event, item, self._rules)
        if interactions:
            self._sessions.add(event.user_id, item, self._statistics.tick)
        return interactions
