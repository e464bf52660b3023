"""Backfill: load the items, replay a log through the graph of the live job, and say what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from recstream.config import Settings
from recstream.connectors.base import RecordSource
from recstream.dataflow.graph import catalogue_flow, final_lists_flow, recommend_flow, replay_rules
from recstream.dataflow.outputs import Inputs
from recstream.dataflow.recommend import FinalListsSource
from recstream.metrics.accounting import Accounting, accounting
from recstream.runtime.locks import job_lock
from recstream.runtime.new_store import check_place
from recstream.runtime.positions import ReplayPlace, all_positions, positions_dir, replay_place
from recstream.runtime.runner import prepare, run_flow
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring

__all__ = ["Replayed", "Stage", "check_inputs", "load_items", "replay"]


Stage: TypeAlias = Callable[[str, Callable[[], float] | None], None]
"""Called when a stage begins, with its name and a function that gives the share done (None: not known)."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did."""

    summary: dict[str, Any]
    account: Accounting
    interrupted: bool
    """It was asked to stop; the same command resumes it."""
    dead_letters: str
    """Where the rejected events are."""

    @property
    def unknown_items(self) -> int:
        """Events that were rejected because their items are not known."""
        return int(self.summary.get("records_rejected", {}).get("events/unknown_item", 0))


def load_items(wiring: Wiring, on_stage: Stage) -> None:
    """Encode and store the items of ``backfill.items``; those that did not change are left as they are."""
    settings = wiring.settings
    source = _checked(wiring.items_to_load())
    on_stage("items", _share(source))
    flow = catalogue_flow(source, wiring.item_rejects(), wiring.services(), wiring.rules())
    run_flow(flow, recovery=None, epoch_s=settings.backfill.epoch_s)


def replay(settings: Settings, stop: Stop, on_stage: Stage) -> Replayed:
    """Run a backfill as ``settings.backfill`` says; interrupted, the same call goes on where it was.

    Raises:
        StoreBusyError: a job is running on the store.
        ConnectorError, StoreError, EncoderError: what the settings name is not there, or does not fit.
    """
    check_inputs(Wiring(settings, stop=stop))
    prepare()
    with job_lock(settings.store_dir, "backfill"):
        place = replay_place(settings)
        chosen = settings.backfill.model_copy(update={"dead_letter": place.dead_letter})
        wiring = Wiring(settings.model_copy(update={"backfill": chosen}), stop=stop)
        try:
            wiring.database  # noqa: B018 - a store that does not fit is refused before anything is read
            done = _replay(wiring, place, stop, on_stage)
            wiring.database.purge()  # of users whom the log erases
            return done
        finally:
            wiring.close()


def _replay(wiring: Wiring, place: ReplayPlace, stop: Stop, on_stage: Stage) -> Replayed:
    settings = wiring.settings
    chosen = settings.backfill
    source = None
    if chosen.events:  # before the items are loaded: it may not be the log that was read before
        source = _checked(wiring.events_to_replay(all_positions(settings.store_dir)))
    if chosen.items:
        load_items(wiring, on_stage)
    if source is not None and not stop.asked():
        on_stage("events", _share(source))
        rules = replay_rules(wiring.rules(), chosen.refresh, job=place.positions)
        outputs = wiring.replay_outputs()
        flow = recommend_flow(Inputs(source), outputs, wiring.services(), rules, name="backfill")
        run_flow(
            flow,
            recovery=positions_dir(settings.store_dir, place.positions),
            epoch_s=settings.backfill.epoch_s,
        )
        if chosen.refresh == "end" and chosen.out and not stop.asked():
            on_stage("final lists", None)
            final = FinalListsSource(wiring.services(), rules)
            flow = final_lists_flow(final, outputs.lists)
            run_flow(flow, recovery=None, epoch_s=settings.backfill.epoch_s)
    summary = wiring.summary()
    return Replayed(summary, accounting(summary), stop.asked(), place.dead_letter)


def check_inputs(wiring: Wiring) -> None:
    """Look at the files that will be read and the store's place, before there is a store because of them.

    Raises:
        ConnectorError: one cannot be read.
        StoreMismatchError: the store that is meant is elsewhere.
    """
    check_place(wiring.settings)
    chosen = wiring.settings.backfill
    if chosen.items:
        _checked(wiring.items_to_load())
    if chosen.events:
        _checked(wiring.events_to_replay())


def _checked(source: RecordSource[Any]) -> RecordSource[Any]:
    """The source, once it is known that it can be read: before a dataflow is started for it."""
    source.check()
    return source


def _share(source: RecordSource[Any]) -> Callable[[], float] | None:
    return None if source.progress() is None else lambda: source.progress() or 0.0
