"""Whether a job may make a new store: not by mistake, where it would send old lists after newer ones."""

from __future__ import annotations

import logging
import os
import time

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.connectors.base import ConnectorError
from recstream.runtime.faults import EXIT_SETTINGS
from recstream.runtime.positions import LIVE, has_positions
from recstream.runtime.signals import Stop
from recstream.stores import store_module
from recstream.stores.base import StoreError, StoreMismatchError

__all__ = ["check_new_store", "check_place"]

_log = logging.getLogger(__name__)


def check_place(settings: Settings) -> None:
    """Refuse to make a store where none is, while there is one where earlier releases looked for it.

    Raises:
        StoreMismatchError: it names both places.
        StoreError: what is there cannot be read.
    """
    before, now = settings.store_dir_before, settings.store_dir
    inspect = store_module(settings.store.backend).inspect_store
    if before is None or not before.is_dir() or inspect(before) is None or inspect(now) is not None:
        return
    raise StoreMismatchError(
        str(now),
        f"there is none, but there is one at {before}: a relative store.path in a settings file is taken "
        "from the file's folder; it used to be taken from the working directory",
        f'move the store there, or set store.path = "{before}"',
    )


def check_new_store(settings: Settings, stop: Stop) -> None:
    """Refuse to begin with a store that is new where an earlier run has left positions or lists.

    The job would read the whole log again and send lists of long ago after the newest ones. A store is new
    if no live job has begun on it, and no users were replayed into it. Places out of reach are asked again,
    as often as a job is started again.

    Raises:
        StoreMismatchError: it says what was found, and the ways out.
        StoreError: the store cannot be read.
        ConnectorError: a place gives no answer.
    """
    if not _is_new(settings):
        return
    left = _left_behind(settings, stop)
    if left:
        raise StoreMismatchError(
            str(settings.store_dir.absolute()),
            f"it is new, but the job has run before: {' and '.join(left)}. It would begin anew and send "
            "lists of long ago after the newest ones",
            "correct store.path if the store is elsewhere; or restore a copy of it; or choose another "
            "consumer group and another topic for the lists; or begin anew on purpose with "
            "`recstream run --new-store`",
        )


def _is_new(settings: Settings) -> bool:
    folder = settings.store_dir
    if has_positions(folder, LIVE):
        return False
    if folder.exists() and not os.access(folder, os.W_OK):  # taking the job's lock will say so
        return False
    module = store_module(settings.store.backend)
    meta = module.inspect_store(folder)
    try:
        return meta is None or module.open_users(folder, meta.dim).count() == 0
    except StoreError:  # it is there, and opening it will say what is wrong
        return False


def _left_behind(settings: Settings, stop: Stop) -> list[str]:
    """Say what an earlier run has left; nothing if a stop is asked for before an answer came."""
    live, options_of = settings.live, settings.options_of
    failures = 0
    while True:
        try:
            found = (
                connector_for(live.events, options_of).read_before(live.events),
                connector_for(live.lists, options_of).written_before(live.lists),
            )
            return [what for what in found if what]
        except ConnectorError as error:
            failures += 1
            if error.exit_code == EXIT_SETTINGS or failures > settings.run.restarts:
                raise
            wait_s = min(2.0 ** (failures - 1), 30.0)
            _log.warning("not known whether the job has run before, asked again in %g s: %s", wait_s, error)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if stop.asked():
                return []
            time.sleep(0.05)
