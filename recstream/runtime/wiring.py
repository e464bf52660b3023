"""Settings become parts: which encoder, stores, sources and sinks a process runs with."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from recstream.config import ConfigError, Settings
from recstream.connectors import FILES, connector_for, scheme_of
from recstream.connectors.base import (
    Connector,
    ConnectorError,
    MessageSink,
    NullSink,
    ReadOptions,
    RecordSource,
)
from recstream.dataflow.outputs import Inputs, Outputs
from recstream.dataflow.services import DataflowRules, IdleRefreshRules, Services
from recstream.encoders.base import Encoder, EncoderSpec
from recstream.encoders.cached import CachedEncoder, open_cached_encoder
from recstream.items.jit import keep_compiled_in
from recstream.metrics.accounting import Summary
from recstream.metrics.health import Health
from recstream.metrics.prometheus import PrometheusMeters
from recstream.ranking.online_learning import LearningRules
from recstream.ranking.recommender import RankingRules
from recstream.ranking.rerank import Diversity
from recstream.ranking.signals.table import default_weights
from recstream.records.actions import DecodeRules, actions_with
from recstream.records.item import TEMPLATE
from recstream.records.reject_limit import RejectLimitRules
from recstream.records.time_order import time_of
from recstream.runtime.bytewax_internals import stored_keys
from recstream.runtime.positions import (
    LIVE,
    PositionsError,
    all_positions,
    compared_positions,
    read_identities,
)
from recstream.runtime.signals import Stop
from recstream.stores import store_module
from recstream.stores.base import Store, StoreMeta
from recstream.users.counting_rules import counting_rules
from recstream.users.state import UserStateRules

__all__ = [
    "SCHEMA",
    "Wiring",
    "counting",
    "dataflow_rules",
    "decode_rules",
    "encoder_spec",
    "health_of",
    "store_meta",
]

log = logging.getLogger(__name__)

SCHEMA = 3
"""Version of the store's layout."""
_LEARNING_SHARE = 0.05
"""Share of a live job's time that is spent on learning, at most."""
_EPOCH_LATE_S, _EPOCHS_LATE = 30.0, 10.0
"""Age of the newest epoch, in seconds and in epochs, beyond both of which a live job is not ready."""
_RETRY_S = 5.0
"""Longest pause before an encoder's server is asked again."""


def encoder_spec(settings: Settings) -> EncoderSpec:
    """What the settings say of the encoder."""
    chosen = settings.encoder
    return EncoderSpec(
        backend=chosen.backend,
        model=chosen.model,
        sha256=chosen.sha256 or None,
        device=chosen.device,
        dtype=chosen.dtype,
        pooling=chosen.pooling,
        prefix=chosen.prefix,
        max_tokens=chosen.max_tokens,
        batch_tokens=chosen.batch_tokens,
        threads=chosen.threads,
        url=chosen.url,
        api_key=chosen.api_key.get_secret_value(),
        timeout_s=chosen.timeout_s,
        retries=chosen.retries,
        dim=chosen.dim,
    )


def store_meta(settings: Settings, encoder: Encoder) -> StoreMeta:
    """What a store must have been made with to be used with these settings."""
    identity = f"{encoder.identity}+{TEMPLATE}"
    return StoreMeta(SCHEMA, identity, encoder.dim, settings.store.shards, counting(settings))


def counting(settings: Settings) -> str:
    """How events are counted, as a store notes it."""
    events = settings.events
    scale = (events.rating_min, events.rating_max)
    return counting_rules(actions_with(events.actions, events.seen), scale, settings.profile.half_life_days)


def decode_rules(settings: Settings, dim: int) -> DecodeRules:
    """Which records are accepted; ``dim`` is the length of vectors that items may bring along."""
    events = settings.events
    return DecodeRules(
        actions=actions_with(events.actions, events.seen),
        rating_scale=(events.rating_min, events.rating_max),
        max_text_bytes=events.max_text_bytes,
        max_item_text_bytes=max(events.max_text_bytes, DecodeRules.max_item_text_bytes),
        max_record_bytes=events.max_record_bytes,
        future_tolerance_s=events.future_tolerance_s,
        dim=dim,
    )


def dataflow_rules(settings: Settings, dim: int) -> DataflowRules:
    """When and how the engine does its work; ``dim`` is as for `decode_rules`."""
    events = settings.events
    user_state = UserStateRules(
        decode=decode_rules(settings, dim),
        half_life_s=settings.profile.half_life_days * 86400.0,
        recent=events.recent,
        history=events.history,
        max_waiting=events.max_waiting,
        dedup=events.dedup,
    )
    ranking = RankingRules(
        top_n=settings.ranking.top_n,
        weights={**default_weights(), **settings.ranking.weights},
        repeats={"auto": None, "always": True, "never": False}[settings.ranking.repeats],
        diversity=Diversity(settings.ranking.mmr, settings.ranking.category_cap),
        model=settings.ranking.model,
    )
    return DataflowRules(
        user_state=user_state,
        ranking=ranking,
        shards=settings.store.shards,
        processes=settings.run.processes,
        hot_users=settings.store.hot_users,
        refresh_s=settings.store.refresh_s,
        wait_for_item_s=events.wait_for_item_s,
        session_gap_s=settings.profile.session_gap_s,
        lateness_s=settings.profile.lateness_s,
        sessions=bool(settings.live.sessions),
        neighbours=settings.ranking.neighbours,
        learning=LearningRules(enabled=settings.ranking.learn, time_share=_LEARNING_SHARE),
        idle_refresh=_idle_refresh(settings),
        reject_limit=RejectLimitRules(
            share=events.fuse_share, records=events.fuse_records, run=events.fuse_run
        ),
    )


def health_of(settings: Settings, stop: Stop) -> Health:
    """What tells whether a process of the live job lives and is ready, as these settings have it.

    A server of vectors may be waited for. And a process waits for its peers while they wait: bytewax lets
    none go on to the next epoch alone.
    """
    chosen, places = settings.encoder, settings.live
    waits_s = (chosen.retries + 1) * (chosen.timeout_s + _RETRY_S) if chosen.url else 0.0
    if settings.run.processes > 1:
        waits_s += connector_for(places.events, settings.options_of).patience_s
    return Health(
        stalled_after_s=settings.run.stalled_after_s + waits_s,
        epoch_late_s=max(_EPOCH_LATE_S, _EPOCHS_LATE * settings.run.epoch_s),
        is_stopping=stop.asked,
    )


def _idle_refresh(settings: Settings) -> IdleRefreshRules | None:
    chosen = settings.drift
    if not chosen.enabled:
        return None
    return IdleRefreshRules(
        active_s=chosen.active_s,
        after_events=chosen.after_events,
        lists_per_s=chosen.lists_per_s,
        items_per_s=chosen.items_per_s,
        item_users=chosen.item_users,
        lists_per_event=settings.backfill.drift,
    )


class Wiring:
    """The parts of one process. Each is opened once, when it is first used, whatever number of workers."""

    def __init__(
        self,
        settings: Settings,
        *,
        stop: Stop | None = None,
        maintains: bool = True,
        create: bool = True,
        alone: bool | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Open nothing yet; it is for number ``process`` of so many that run a dataflow together."""
        self.settings = settings
        self.stop = Stop() if stop is None else stop
        self.meters = PrometheusMeters()
        self.health = health_of(settings, self.stop)
        self.on_throttled: Callable[[float], None] = lambda _: None
        """Called with the seconds for which a broker throttles what is written."""
        self._maintains = maintains
        self._create = create
        self._alone = alone
        self._process = process
        self._processes = processes
        self._lock = threading.RLock()
        self._connectors: dict[str, Connector] = {}

    @cached_property
    def encoder(self) -> CachedEncoder:
        """The encoder behind its caches. Beside them compiled code is kept if numba has no other place."""
        settings = self.settings
        if not keep_compiled_in(settings.cache_dir / "compiled"):
            log.warning(
                "compiled code cannot be kept, so that each start compiles for a minute or two: neither the "
                "package's folder, nor the user's cache folder, nor %s can be written; set "
                "NUMBA_CACHE_DIR to one that can",
                settings.cache_dir,
            )
        return open_cached_encoder(
            encoder_spec(settings),
            settings.cache_dir if settings.cache.enabled else None,
            max_mb=settings.cache.max_mb,
            lru_size=settings.cache.lru_size,
            meters=self.meters,
        )

    def preload(self, failed: Callable[[BaseException], None]) -> None:
        """Load the model in a thread of its own, past the caches, which would answer without it.

        ``failed`` is called from that thread with what went wrong.
        """
        encoder = self.encoder

        def load() -> None:
            try:
                encoder.warm_up()
            except Exception as error:  # it would end the thread alone
                failed(error)

        threading.Thread(target=load, name="preload", daemon=True).start()

    @cached_property
    def database(self) -> Store:
        """The store."""
        store = self.settings.store
        return store_module(store.backend).open_store(
            self.settings.store_dir,
            store_meta(self.settings, self.encoder),
            create=self._create,
            alone=self._create if self._alone is None else self._alone,
            compact_every_s=store.compact_every_s,
            keep_versions_s=store.keep_versions_s,
        )

    def services(self) -> Services:
        """What the engine asks for."""

        def encoder() -> Encoder:
            with self._lock:
                return self.encoder

        def database() -> Store:
            with self._lock:
                return self.database

        return Services(
            encoder=encoder,
            users=lambda: database().journalled_users,
            items=lambda: database().items,
            statistics=lambda: database().statistics,
            models=lambda: database().models,
            generation=lambda: database().generation,
            meters=self.meters,
            now=time.time,
            maintain=(lambda: database().maintain()) if self._maintains else None,
        )

    def rules(self) -> DataflowRules:
        """When and how the engine does its work."""
        return dataflow_rules(self.settings, self.encoder.dim)

    def live_inputs(self) -> Inputs:
        """The sources of events and of items."""
        live, positions = self.settings.live, self.settings.store_dir / "positions" / LIVE
        known = read_identities(positions, self._connector(live.events).identity_of)
        keys = stored_keys(positions)
        stored = all_positions(self.settings.store_dir)

        def on_lag(name: str, behind: int) -> None:
            self.meters.set("kafka_lag", behind, partition=name)

        def on_loss(name: str, count: int) -> None:
            self.meters.add("offsets_lost", count, partition=name)

        def stopping() -> bool:
            self.health.turned()  # sources ask before each batch
            return self.stop.asked()

        def reading(stream: str) -> ReadOptions:
            def on_epoch() -> None:
                self.health.closed_epoch()
                self.meters.set("last_epoch", time.time(), stream=stream)

            return ReadOptions(
                start=self.settings.start if stream == "events" else "earliest",
                stopping=stopping,
                on_lag=on_lag,
                on_loss=on_loss,
                on_epoch=on_epoch,
                is_urgent=stream == "events",
                is_live=True,
                known=known,
                kept=keys.get(f"{LIVE}.{stream}", ()),
                positions=stored,
            )

        return Inputs(
            events=self._connector(live.events).source(live.events, reading("events")),
            items=self._connector(live.items).source(live.items, reading("items")),
        )

    def report_positions(self) -> None:
        """Count what partitions hold and the job has not read; without an answer the last numbers stand."""
        try:
            for position in compared_positions(self.settings, in_full=False):
                self.meters.set("lag_share", position.lag_share, partition=position.partition)
        except (ConnectorError, PositionsError) as error:
            log.info("lag not compared with what is held: %s", error)

    def live_outputs(self) -> Outputs:
        """The sinks of lists, rejects and sessions."""
        live = self.settings.live
        return Outputs(
            lists=self._sink(live.lists),
            rejects=self._sink(live.dead_letter),
            sessions=self._sink(live.sessions) if live.sessions else None,
        )

    def items_to_load(self) -> RecordSource[Any]:
        """The items of ``backfill.items``, all there are: the bounds of the events are not theirs."""
        where = self.settings.backfill.items
        return self._connector(where).source(where, ReadOptions(stop="end", stopping=self.stop.asked))

    def events_to_replay(self, positions: Sequence[Any] = ()) -> RecordSource[Any]:
        """The log of ``backfill.events``: a file, or another place between ``start`` and ``backfill.stop``.

        ``positions`` are those that replays have stored: what was read of a file is known by them. The
        source's own are not shown to tools that watch how far behind the live job is.
        """
        chosen = self.settings.backfill
        connector = self._connector(chosen.events)
        if connector.has_bounds and chosen.limit:
            msg = f"backfill.limit={chosen.limit} counts records of files; end a topic by backfill.stop"
            raise ConfigError([msg])
        if connector.has_bounds and chosen.sort:
            msg = (
                f"backfill.sort: got {chosen.events}, wanted a file; write the topic's records to a .jsonl "
                "file first"
            )
            raise ConfigError([msg])
        options = ReadOptions(
            start=self.settings.start,
            stop=chosen.stop_at,
            limit=chosen.limit,
            stopping=self.stop.asked,
            positions=positions,
            key=time_of if chosen.sort else None,
        )
        return connector.source(chosen.events, options)

    @property
    def dead_letters(self) -> str:
        """Where the rejects of a replayed event log go."""
        return self.settings.backfill.dead_letter or str(self.settings.store_dir / "dead-letter.jsonl")

    @property
    def item_dead_letters(self) -> str:
        """Where rejected items of a load go: a file anew with each load, for each reads all its items."""
        chosen = self.settings.backfill.dead_letter
        is_file = scheme_of(chosen) == FILES
        return str(self.settings.store_dir / "dead-letter-items.jsonl") if is_file else chosen

    def item_rejects(self) -> MessageSink:
        """The sink at `item_dead_letters`."""
        return self._sink(self.item_dead_letters)

    def replay_outputs(self) -> Outputs:
        """Where a replay's lists and rejects go; without ``backfill.out``, lists go nowhere."""
        out = self.settings.backfill.out
        return Outputs(lists=self._sink(out) if out else NullSink(), rejects=self._sink(self.dead_letters))

    def summary(self) -> Summary:
        """Totals of this process, for `recstream.metrics.accounting`."""
        return self.meters.snapshot()

    def close(self) -> None:
        """Free what was opened."""
        if "encoder" in self.__dict__:
            self.encoder.close()

    def _connector(self, address: str) -> Connector:
        """The connector of a place: one for all of a scheme, for they share what they find of it."""
        scheme = scheme_of(address)
        if scheme not in self._connectors:
            made = self._connectors[scheme] = connector_for(address, self.settings.options_of)
            made.on_trouble = self.health.report
            made.on_throttled = self._count_throttled
            made.process, made.processes = self._process, self._processes
        return self._connectors[scheme]

    def _count_throttled(self, place: str, seconds: float) -> None:
        self.meters.add("throttled_seconds", seconds, place=place)
        self.on_throttled(seconds)

    def _sink(self, address: str) -> MessageSink:
        return self._connector(address).sink(address)
