"""One job at a time on a store: two writers of one row would undo each other's work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["StoreBusyError", "job_lock"]


class StoreBusyError(Exception):
    """Another job is running on the store."""


@contextmanager
def job_lock(store: Path, job: str) -> Iterator[None]:
    """Hold a store for one job; the lock goes with the process, however it ends.

    Raises:
        StoreBusyError: another job holds it; the message names the job, its process and the mend.
    """
    store.mkdir(parents=True, exist_ok=True)
    with open(store / "job.lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another job"
            msg = f"store {store} is in use by {holder}: stop it first, or give another store.path"
            raise StoreBusyError(msg) from None
        file.truncate(0)
        file.write(f"`recstream {job}` (process {os.getpid()})")
        file.flush()
        yield
        file.truncate(0)
