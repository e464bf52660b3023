"""Sessions of a worker's users: closed, and announced, once they can grow no more."""

from __future__ import annotations

from recstream.dataflow.messages import ClosedSession
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.timers import Timers
from recstream.users.sessions import sessions_of
from recstream.users.state import UserState

__all__ = ["SessionClosing"]


class SessionClosing:
    """Finds the sessions that are over, by event time or because the user is silent."""

    def __init__(self, timers: Timers, outbox: Outbox, services: Services, rules: DataflowRules) -> None:
        self._timers = timers
        self._outbox = outbox
        self._meters = services.meters
        self._steady = services.steady
        self._gap_s = rules.session_gap_s
        self._silence_s = rules.silence_s

    def note_read(self, user_id: str) -> None:
        """Note that an event of the user was read now."""
        self._timers.note_read(user_id, self._steady())

    def close(self, user_state: UserState) -> list[ClosedSession]:
        """Give the sessions that are over and were not announced yet.

        A user's silence is counted from when an event was *read*, so a replayed log closes no session early.
        """
        is_silent = self._timers.take_if_silent(user_state.user_id, self._steady())
        newest = user_state.recent[-1].ts if user_state.recent else 0.0
        closed = []
        for session in sessions_of(user_state.recent, self._gap_s):
            is_over = is_silent or newest - session.end > self._silence_s
            if is_over and session.end > user_state.announced:
                user_state.announced = session.end
                closed.append(ClosedSession(user_state.user_id, session))
                self._meters.add("sessions_closed")
                self._outbox.keep(user_state, session)
        return closed
