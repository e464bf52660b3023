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
    """Passes what users choose on to the model, the session index and the item statistics.

    ``in_order``: interactions are counted here, in the order of the log. They are kept until something is
    made of the statistics, so that many are counted at once: the result is the same.
    """

    def __init__(
        self,
        learner: OnlineLearner,
        recommender: Recommender,
        replica: CatalogueReplica,
        rules: UserStateRules,
        *,
        in_order: bool,
    ) -> None:
        self._learner = learner
        self._sessions = recommender.sessions
        self._replica = replica
        self._rules = rules
        self._in_order = in_order
        self._uncounted: list[Interaction] = []

    def before(self, event: Event, user_state: UserState) -> None:
        """Let the model learn from a choice, by the state and the catalogue as they are without the event."""
        if is_engagement(event, self._rules.decode):
            item = self._replica.catalogue.handle(event.item_id or "")
            if item is not None:
                self._learner.offer(event, item, user_state, before_learning=self.count)

    def after(self, event: Event, item: int, user_state: UserState) -> list[Interaction]:
        """Give what item statistics are to count of an event that was just applied, elsewhere than here."""
        interactions = user_state.interactions(event, item, self._rules)
        if interactions:
            tick = self._replica.statistics.tick + len(self._uncounted) * self._replica.ticks_each
            self._sessions.add(event.user_id, item, tick)
        if not self._in_order:
            return interactions
        self._uncounted += interactions
        return []

    def count(self) -> None:
        """Count the interactions that are kept."""
        if self._uncounted:
            self._replica.statistics.count(self._uncounted, ticks_each=self._replica.ticks_each)
            self._uncounted = []
