"""What the processes of a job say, passed on without the noise of the engine that would hide the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from subprocess import Popen
from threading import Lock, Thread
from typing import IO, Final

__all__ = ["ProcessOutput", "Sieve"]

_PANIC: Final = re.compile(rb"thread '.*' (\(\d+\) )?panicked at ")
_OWN: Final = re.compile(rb"\d{4}-\d\d-\d\d |error: |Traceback ")
"""Lines of a log, of a fault and of a traceback: what Rust says of a panic is over."""
_REASON: Final = re.compile(rb"error: |Traceback ")
_MEETING: Final = re.compile(rb"worker \d+:\s+error connecting to worker \d+: ")
_MOST_LINES: Final = 1000
_JOIN_S: Final = 2.0
"""How long the last lines of a process that has ended may take; its own children may hold its output open."""


class Sieve:
    r"""Sorts the lines of one process; what is withheld is kept.

    A fault passes through bytewax as a panic, of which Rust tells first, in words that say nothing about the
    reason. And processes of a cluster complain of peers that are still starting.

    >>> sieve = Sieve()
    >>> panic = [b"thread '<unnamed>' panicked at src/run.rs:128:17:\n", b"Box<dyn Any>\n"]
    >>> [line for line in [*panic, b"error: no topic\n"] if sieve.passes(line)], sieve.has_reason
    ([b'error: no topic\n'], True)
    >>> sieve.withheld == panic
    True
    """

    def __init__(self) -> None:
        self.withheld: list[bytes] = []
        """The newest lines that do not pass."""
        self.has_reason = False
        """Whether the process has said why it ends."""
        self._is_panic = False

    def passes(self, line: bytes) -> bool:
        """Whether a line may be shown at once."""
        if _MEETING.match(line):
            self._withhold(line)
            return False
        if _PANIC.match(line):
            self._is_panic = True
        elif _OWN.match(line):
            self._is_panic = False
            self.has_reason = self.has_reason or _REASON.match(line) is not None
        if self._is_panic:
            self._withhold(line)
        return not self._is_panic

    def _withhold(self, line: bytes) -> None:
        if self.withheld and _MEETING.match(line) and _MEETING.match(self.withheld[-1]):
            self.withheld.pop()  # it says so every second
        self.withheld.append(line)
        del self.withheld[:-_MOST_LINES]


class ProcessOutput:
    """Passes on, line by line, what the processes of one start say, as their `Sieve` lets it."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._lock = Lock()
        self._followed: list[tuple[Thread, Sieve]] = []

    def follow(self, process: Popen[bytes]) -> None:
        """Pass on the standard output of a process, in a thread, until it has ended."""
        sieve = Sieve()
        thread = Thread(
            target=self._pass_on, args=(process.stdout, sieve), name="recstream-output", daemon=True
        )
        self._followed.append((thread, sieve))
        thread.start()

    def end(self, *, well: bool) -> None:
        """Wait for the last lines of processes that have ended.

        If they did not end ``well``, and none has said why, what was withheld follows.
        """
        for thread, _ in self._followed:
            thread.join(_JOIN_S)
        sieves = [sieve for _, sieve in self._followed]
        self._followed.clear()
        if not well and not any(sieve.has_reason for sieve in sieves):
            self._write(line for sieve in sieves for line in sieve.withheld)

    def _pass_on(self, said: IO[bytes], sieve: Sieve) -> None:
        with said:
            for line in said:
                if sieve.passes(line):
                    self._write(iter([line]))

    def _write(self, lines: Iterator[bytes]) -> None:
        with self._lock, suppress(OSError, ValueError):  # nobody listens any more: the job goes on
            self._out.writelines(lines)
            self._out.flush()
