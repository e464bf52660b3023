"""One job at a time on a store: two writers of one row would undo each other's work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

__all__ = ["StoreBusyError", "job_lock", "lock_holder"]


class StoreBusyError(Exception):
    """Another job is running on the store."""


@contextmanager
def job_lock(store: Path, job: str, *, backend: str | None = None) -> Iterator[None]:
    """Hold a store for one job; the lock goes with the process, however it ends.

    With ``backend`` there must be a store of that kind already; nothing is made where there is none.

    Raises:
        StoreBusyError: another job holds it; the message names the job, its process and the mend.
        StoreError: there is none (with ``backend``), or it cannot be written.
    """
    with _opened(store, backend) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another job"
            msg = f"store {store} is in use by {holder}: stop it first, or give another store.path"
            raise StoreBusyError(msg) from None
        with _writing(store):
            file.truncate(0)
            file.write(f"`recstream {job}` (process {os.getpid()})")
            file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def lock_holder(store: Path) -> str:
    """Name the job that holds a store, with its process; empty when none does. Changes nothing."""
    try:
        with open(store / "job.lock", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another job"
    except OSError:
        pass  # there is no store, or it cannot be read: nobody holds it
    return ""


def _opened(store: Path, backend: str | None) -> TextIO:
    if backend is not None:
        from recstream.stores import require_store

        require_store(backend, store)
    with _writing(store):
        store.mkdir(parents=True, exist_ok=True)
        return open(store / "job.lock", "a+", encoding="utf-8")


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        from recstream.stores.base import StoreError

        mend = "make room, give this user the right to write there, or point store.path elsewhere"
        raise StoreError(str(store), f"cannot be written ({error.strerror})", mend) from error
