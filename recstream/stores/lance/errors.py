"""Errors of lancedb: which are tried again, and what the operator reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import stamina

from recstream.stores.base import StoreError

__all__ = [
    "is_conflict",
    "is_stale",
    "read_again",
    "translated",
    "write_again",
]

T = TypeVar("T")

LANCE_ERRORS = (RuntimeError, OSError, ValueError)
"""What lancedb raises; it has no exception types of its own for local tables."""

CONFLICTS = ("commit conflict", "preempted by concurrent", "too many concurrent", "contention")
"""Parts of the messages (lower case) of a commit that lost against another process's."""

STALE = ("not found",)
"""Parts of the messages of a read whose version was cleaned up meanwhile."""


def is_conflict(error: Exception) -> bool:
    """Whether a commit lost against another one, so that trying again is right.

    >>> is_conflict(RuntimeError("lance error: Retryable commit conflict for version 19"))
    True
    >>> is_conflict(RuntimeError("No space left on device"))
    False
    """
    return isinstance(error, LANCE_ERRORS) and any(part in str(error).lower() for part in CONFLICTS)


def is_stale(error: Exception) -> bool:
    """Whether a read hit files that a clean-up removed after the read had chosen its version.

    >>> is_stale(RuntimeError("lance error: Not found: users.lance/_deletions/3-5.arrow"))
    True
    """
    return isinstance(error, LANCE_ERRORS) and any(part in str(error).lower() for part in STALE)


def write_again(write: Callable[[], T]) -> T:
    """Run a write, again after each lost commit: at most 6 times within 60 seconds."""
    for attempt in stamina.retry_context(
        on=is_conflict, attempts=6, timeout=60.0, wait_initial=0.05, wait_max=2.0, wait_jitter=0.2
    ):
        with attempt:
            return write()
    raise AssertionError("stamina ends with a result or an exception")  # pragma: no cover


def read_again(read: Callable[[], T]) -> T:
    """Run a read that takes the newest version first, again when that was cleaned up under it."""
    for attempt in stamina.retry_context(
        on=is_stale, attempts=4, timeout=30.0, wait_initial=0.01, wait_max=0.5, wait_jitter=0.05
    ):
        with attempt:
            return read()
    raise AssertionError("stamina ends with a result or an exception")  # pragma: no cover


@contextmanager
def translated(path: str, doing: str) -> Iterator[None]:
    """Turn what lancedb raises into a :class:`StoreError` that says what was being done."""
    try:
        yield
    except LANCE_ERRORS as error:
        if is_conflict(error):
            mend = "let fewer processes write to it, or run maintenance less often"
        elif "no space left" in str(error).lower():
            mend = "free disk space, then start again: nothing half-written is visible"
        else:
            mend = "check the folder's permissions and disk; if it is damaged, replay into a new one"
        raise StoreError(path, f"{doing} failed: {str(error)[:500]}", mend) from error
