"""Upgrade of a store to the layout of this release and, if accepted, to the configured rules of counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from recstream.config import Settings
from recstream.items.catalogue import Catalogue
from recstream.records.actions import actions_with
from recstream.runtime.locks import job_lock
from recstream.runtime.wiring import SCHEMA, counting
from recstream.stores import store_module
from recstream.stores.base import StoreMismatchError
from recstream.users.codec import WAITING, user_state_of

__all__ = ["upgrade"]

_CHUNK: Final = 1000
"""Users fetched at once."""


def upgrade(settings: Settings, *, accept: bool = False, dry_run: bool = False) -> Iterator[str]:
    """Upgrade the store of these settings; gives a sentence for each step done (with ``dry_run``: to do).

    Raises:
        StoreBusyError: A job is running on it.
        StoreError: There is none, or it cannot be changed.
        StoreMismatchError: It is of a newer layout, its rules differ and are not accepted, or the
            action of an event that waits for its item is no longer configured.
    """
    with job_lock(settings.store_dir, "upgrade", backend=settings.store.backend):
        if accept:
            _check_waiting(settings)
        rules = counting(settings)
        steps = store_module(settings.store.backend).upgrade_store
        yield from steps(settings.store_dir, SCHEMA, rules, accept=accept, dry_run=dry_run)


def _check_waiting(settings: Settings) -> None:
    """Check that the action of every event that waits for its item is still configured."""
    backend = store_module(settings.store.backend)
    meta = backend.inspect_store(settings.store_dir)
    if meta is None or meta.schema > SCHEMA or not meta.rules:
        return  # layout 1 knew no rules: those of the configuration are taken for its own
    users = backend.open_users(settings.store_dir, meta.dim)
    actions = actions_with(settings.events.actions, settings.events.seen)
    ids = [user for user, why in users.unfinished(range(meta.shards)).items() if why & WAITING]
    missing: Counter[str] = Counter()
    for at in range(0, len(ids), _CHUNK):
        for row in users.fetch(ids[at : at + _CHUNK]).values():
            waiting = user_state_of(row, Catalogue(meta.dim)).waiting
            missing.update(one.event.action for one in waiting if one.event.action not in actions)
    if missing:
        counts = ", ".join(f"{count:,} of {action!r}" for action, count in sorted(missing.items()))
        raise StoreMismatchError(
            str(settings.store_dir),
            f"events wait for their items whose actions the configuration has no more: {counts}",
            "keep these actions in events.actions until the items came or events.wait_for_item_s is over",
        )
