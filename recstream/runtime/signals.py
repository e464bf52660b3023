"""Signals: the clean stop they ask for, and what process 1 of a container has to do itself.

The kernel gives process 1 no signal for which it has no handler, and leaves all orphans to it. Importing this
module makes SIGTERM end process 1, as it ends any other process, until `Stop.on_signals` installs a better
handler. It is imported before all that takes long: a container that is stopped at once stops at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection, Sequence
from types import FrameType
from typing import Final

__all__ = ["IS_FIRST", "Stop", "bury_orphans"]

_MEET_S: Final = 2.0
"""Seconds that a process which is asked to stop waits for its peers, or for a broker, to begin to read."""

IS_FIRST: Final = os.getpid() == 1
"""Whether this process is the first of its container."""


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


if IS_FIRST:
    signal.signal(signal.SIGTERM, _end)


def bury_orphans(own: Collection[int]) -> None:
    """Let go of ended processes that process 1 inherited; ``own`` are those that somebody else waits for."""
    while IS_FIRST:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)


class Stop:
    """A request to stop: set by a signal, read by the sources, which then end (the clean stop, G6).

    Ending the sources makes bytewax close the last epoch as at the end of a file: all that is in flight is
    worked off, written and committed. SIGTERM alone would end the process without a snapshot.

    Until a source has asked, a signal ends the process at once: nothing is read yet, nothing is in flight.
    ``early_exit`` is the exit code of a SIGTERM then.

    >>> stop = Stop()
    >>> stop.asked()
    False
    >>> stop.ask()
    >>> stop.asked()
    True
    """

    def __init__(self, early_exit: int = 0) -> None:
        self._event = threading.Event()
        self._early_exit = early_exit
        self._is_meeting = False
        self._is_read = False

    def asked(self) -> bool:
        """Whether the sources should end."""
        self._is_read = True
        return self._event.is_set()

    def ask(self) -> None:
        """Let the sources end."""
        self._event.set()

    def meet(self) -> None:
        """Note that the process waits for its peers: from now on it should end with them, not at once.

        When they do not all come within two seconds of the stop, or the broker does not tell them what there
        is to read, nobody has read anything, and it ends after all.
        """
        self._is_meeting = True

    def is_read(self) -> None:
        """Note that sources ask from now on: its own or, in a process that reads none, those of its peers.

        A process without a partition never asks; it ends when the others do. Ended before them it would
        take them, and their epoch, along.
        """
        self._is_read = True

    def on_signals(self, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """Ask on the first of these signals; a second SIGINT ends the process at once.

        The first signal does so while no source asks yet.

        Raises:
            ValueError: not called from the main thread.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        for one in signals:
            signal.signal(one, _wake)
        numbers = frozenset(map(int, signals))
        threading.Thread(
            target=self._wait_for, args=[reading, numbers], name="recstream-signals", daemon=True
        ).start()

    def _wait_for(self, reading: int, numbers: frozenset[int]) -> None:
        """Take signals in a thread: the main one may be out of Python, waiting for peers or a broker."""
        while True:
            for number in os.read(reading, 64):
                if number in numbers:
                    self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        code = self._early_exit if number == signal.SIGTERM else 128 + number
        if not self._is_read and not self._is_meeting:
            os._exit(code)
        if self._event.is_set() and number == signal.SIGINT:
            os._exit(128 + number)
        if not self._event.is_set() and not self._is_read:
            waiting = threading.Timer(_MEET_S, self._give_up, [code])
            waiting.daemon = True
            waiting.start()
        self.ask()

    def _give_up(self, code: int) -> None:
        if not self._is_read:
            os._exit(code)


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: with a handler of Python's, a signal wakes the thread that waits for it."""
