"""Topics in: one bytewax partition for each Kafka partition, positions in the recovery store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Final, NamedTuple

from bytewax.inputs import StatefulSourcePartition
from typing_extensions import override

from recstream.connectors.base import RecordSource, never, untold
from recstream.connectors.kafka.admin import Topic, Watermarks, offsets_at, required_topics, watermarks
from recstream.connectors.kafka.bounds import (
    Position,
    check_names,
    first_offset,
    loss_since,
    read_since,
    stop_offset,
)
from recstream.connectors.kafka.client import NO_GROUP, KafkaFault, NoAnswerFault, Outage, StayedAwayFault
from recstream.connectors.kafka.losses import find_losses, loss_fault
from recstream.connectors.kafka.partition import KafkaPartition
from recstream.connectors.kafka.reader import PartitionReader, ReadingOptions
from recstream.records.bounds import At, Bound
from recstream.records.transport import RawBatch

__all__ = ["KafkaSource"]

_log = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 1.0
"""Pause between two looks at a cluster that did not answer."""


class _Survey(NamedTuple):
    """The cluster as seen when the run started."""

    topics: dict[str, Topic]
    marks: dict[tuple[str, int], Watermarks]
    at_times: dict[tuple[str, int], int]
    cuts: dict[str, list[int]]
    """Where logs were cut, by identity of the partition, as far as positions that are kept can tell."""


class KafkaSource(RecordSource[Position]):
    """Reads whole topics, without consumer-group rebalancing: bytewax divides the partitions.

    * A partition's key is ``"events/3"``; its identity adds a digest of the topic's id. A stored
      position whose identity differs belongs to a topic that was re-created since: the partition then
      begins at ``start``, with a warning.
    * ``start`` (``earliest``, ``latest``, a time, or offsets by partition) holds where nothing is
      stored. ``latest`` and a time are fixed when the run starts. At a time, older records are dropped.
    * Events know the first offset of the unbroken run that reads them (``Partition.since``), so that an
      earlier part of a topic can be replayed after a later one. At a time that is the first record kept.
    * ``stop`` (``end``, a time, or offsets, which are exclusive) ends the source there; ``end`` is the
      end when the run starts, and so is the end for a time: younger records before it are dropped.
    * When ``stopping()`` says so, every partition ends after what it has emitted: the clean stop.
    * Positions are mirrored to consumer group ``group`` for lag tools, at most once a second and only
      once the *next* snapshot is asked for, by when bytewax has closed the epoch of the earlier one;
      bytewax tells nobody when it has committed, so the mirror is never read back. A clean stop
      leaves it at the last snapshot. Without ``mirrors`` the group is only named, as the client wants it.
    * ``on_lag(name, lag)`` is called at most once a second with how many offsets a partition is behind.
    * ``on_epoch()`` is called with each snapshot.
    * Where records are gone between a position and the first that is held, or the log was cut before it, the
      reading ends with a fault. With ``skips_losses`` it goes on, and ``on_loss(name, offsets)`` is called.
    * A cluster out of reach is waited for, ``down_after_s`` at most; one that keeps its connections and
      answers nothing is taken for away after about half of that. With ``waits`` so is a cluster that is away
      when the run starts. ``on_trouble`` is told of it (see `Connector`). ``outage`` is shared with
      others who use the cluster.
    * Partitions added to a topic while the source runs are read from the next start on (`PartitionWatch`
      notices them): from their beginning when ``known``, the identities that have a position, has others of
      their topic: what is in them came after the job began. Only a ``start`` at a time holds for them, too.

    * ``kept`` names partitions that have a stored position. Those which the topics do not have (any more)
      are passed over and keep it: the job may have read another topic before, or one with more partitions.
    * ``positions`` are all that are stored of topics, by whatever read them: what was absorbed of a log that
      was cut since is known by them (see `identity_at`).

    Raises:
        KafkaSettingsFault: topics missing, bounds that do not fit, positions lost, settings refused.
        StayedAwayFault: Kafka has not answered for as long as it is waited for.
        KafkaFault: topics named twice (here), Kafka out of reach (when bytewax builds and runs it).
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        *,
        poll_max: int,
        down_after_s: float,
        skips_losses: bool,
        start: Bound = "earliest",
        stop: Bound | None = None,
        group: str | None = None,
        mirrors: bool = True,
        client: Mapping[str, str] | None = None,
        stopping: Callable[[], bool] = never,
        on_lag: Callable[[str, int], None] | None = None,
        on_epoch: Callable[[], None] | None = None,
        on_loss: Callable[[str, int], None] | None = None,
        on_trouble: Callable[[str, str], None] = untold,
        outage: Outage | None = None,
        waits: bool = False,
        idle_s: float = 0.002,
        timeout_s: float = 15.0,
        buffer_kib: int = 8192,
        known: Collection[str] = (),
        kept: Collection[str] = (),
        positions: Collection[Position] = (),
    ) -> None:
        if not topics or isinstance(topics, str) or len(set(topics)) != len(topics):
            msg = f"topics={topics!r}: name each topic once, at least one"
            raise KafkaFault(msg)
        self._bootstrap = bootstrap
        self._topics = list(topics)
        self._start = start
        self._stop = stop
        self._client = client
        self._known = frozenset(known)
        self._kept = frozenset(kept)
        self._positions = list(positions)
        self._timeout_s = timeout_s
        self._waits = waits
        self._reading = ReadingOptions(
            bootstrap=bootstrap,
            client=client,
            group=NO_GROUP if group is None else group,
            mirrors=mirrors and group is not None,
            stopping=stopping,
            on_lag=on_lag,
            on_epoch=on_epoch,
            on_loss=on_loss,
            on_trouble=on_trouble,
            skips_losses=skips_losses,
            poll_max=poll_max,
            idle_s=idle_s,
            down_after_s=down_after_s,
            outage=Outage() if outage is None else outage,
            buffer_kib=buffer_kib,
            before_ms=stop.ms if isinstance(stop, At) else None,
        )
        self._lock = threading.Lock()
        self._survey: _Survey | None = None
        self._reader: PartitionReader | None = None

    @override
    def check(self) -> None:
        self.list_parts()

    @override
    def list_parts(self) -> list[str]:
        survey = self._when_it_answers()
        with self._lock:
            self._survey = survey
        names = [f"{topic}/{number}" for topic, number in survey.marks]
        new = [
            f"{topic}/{number}"
            for topic, number in survey.marks
            if self._is_new(survey.topics[topic], number)
        ]
        check_names(self._start, "start", names, new)
        check_names(self._stop, "stop", names)
        return [*names, *sorted(self._kept.difference(names))]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: Position | None
    ) -> StatefulSourcePartition[RawBatch, Position]:
        with self._lock:
            survey = self._survey or self._when_it_answers()
        name, _, number = for_part.rpartition("/")
        part = (name, int(number))
        if part not in survey.marks:
            if resume_state is None:
                msg = f"step {step_id}: Kafka at {self._bootstrap} has no partition {for_part}; start again"
                raise KafkaFault(msg)
            _log.warning(
                "partition=%s: not read any more (another topic is, or it has fewer partitions now); its "
                "position is kept",
                for_part,
            )
            return _Retired(resume_state)
        marks, identity = survey.marks[part], survey.topics[name].identity(part[1])
        cuts, loss = survey.cuts.get(identity, []), None
        if resume_state is not None and resume_state["identity"] == identity:
            position = resume_state.copy()
            position.setdefault("since", resume_state["offset"])
            loss = loss_since(position, cuts, marks)
            if loss.offsets and not self._reading.skips_losses:
                raise loss_fault(for_part, loss, "stored position")
            if loss.is_cut and len(cuts) == len(position.get("cuts", ())):
                cuts = [*cuts, loss.goes_on]
        else:
            if resume_state is not None:
                _log.warning(
                    "partition=%s stored=%s now=%s: the topic was re-created, starting at %s",
                    for_part,
                    resume_state["identity"],
                    identity,
                    self._start,
                )
            start = self._start
            if self._is_new(survey.topics[name], part[1]) and not isinstance(start, At):
                _log.warning(
                    "partition=%s: new in a topic that was read before, from its beginning", for_part
                )
                start = "earliest"
            offset = first_offset(for_part, start, marks, survey.at_times.get(part))
            from_ms = self._start.ms if isinstance(self._start, At) else None
            since = offset if from_ms is None else None
            position = Position(identity=identity, offset=offset, from_ms=from_ms, since=since)
        if (read := read_since(position, cuts)) is not None:
            position["read"] = read
        if cuts:
            position["cuts"] = cuts
        return KafkaPartition(
            for_part,
            position,
            stop=stop_offset(for_part, self._stop, marks),
            high=marks.high,
            loss=loss,
            reader=self._reader_of_process(),
            options=self._reading,
        )

    def _reader_of_process(self) -> PartitionReader:
        """The one that the partitions share which this process reads; another one once all of those ended."""
        with self._lock:
            if self._reader is None or self._reader.is_closed:
                self._reader = PartitionReader(self._reading, _utc_now)
            return self._reader

    def _is_new(self, topic: Topic, number: int) -> bool:
        """Whether it was added to a topic that an earlier run has read."""
        return topic.identity(number) not in self._known and any(
            topic.identity(other) in self._known for other in topic.partitions
        )

    def _when_it_answers(self) -> _Survey:
        """Look at the cluster; with ``waits``, again and again until it answers, or was away for too long."""
        limit_s, where = self._reading.down_after_s, f"{', '.join(self._topics)} at {self._bootstrap}"
        began, was_told = time.monotonic(), False
        while True:
            left_s = max(limit_s - (time.monotonic() - began), _ASK_EVERY_S)
            try:
                survey = self._look(min(self._timeout_s, left_s) if self._waits else self._timeout_s)
            except NoAnswerFault as fault:
                if not self._waits:
                    raise
                self._reading.on_trouble(where, str(fault))
                if time.monotonic() - began >= limit_s:
                    msg = f"{fault}; it was waited for {limit_s:g} s"
                    raise StayedAwayFault(msg) from None
                if not was_told:
                    _log.warning("waiting up to %g s for an answer: %s", limit_s, fault)
                    was_told = True
                time.sleep(_ASK_EVERY_S)
            else:
                if was_told:
                    self._reading.on_trouble(where, "")
                return survey

    def _look(self, timeout_s: float) -> _Survey:
        found = required_topics(
            self._bootstrap, self._topics, "Read", client=self._client, timeout_s=timeout_s
        )
        parts = [(name, number) for name in self._topics for number in found[name].partitions]
        marks = watermarks(
            self._bootstrap, parts, client=self._client, group=self._reading.group, timeout_s=timeout_s
        )
        times: dict[tuple[str, int], int] = {}
        if isinstance(self._start, At):
            times = offsets_at(
                self._bootstrap, parts, self._start.ms, client=self._client, timeout_s=timeout_s
            )
        identities = {part: found[part[0]].identity(part[1]) for part in parts}
        cuts = self._find_cuts(identities, timeout_s)
        return _Survey(found, {part: marks[part] for part in parts}, times, cuts)

    def _find_cuts(self, identities: Mapping[tuple[str, int], str], timeout_s: float) -> dict[str, list[int]]:
        """Where logs were cut: what positions know of it, and what leaders say of the newest records read."""
        cuts: dict[str, list[int]] = {}
        for position in self._positions:
            known = cuts.get(position["identity"], [])
            cuts[position["identity"]] = max(known, list(position.get("cuts", ())), key=len)
        read: dict[str, tuple[int, int]] = {}
        for position in self._positions:
            identity = position["identity"]
            if (newest := read_since(position, cuts[identity])) is not None:
                read[identity] = max(read.get(identity, newest), newest)
        asked = {part: read[identity] for part, identity in identities.items() if identity in read}
        losses = find_losses(
            self._bootstrap, asked, client=self._client, group=self._reading.group, timeout_s=timeout_s
        )
        for part, loss in losses.items():
            if loss.is_cut:
                _log.warning(
                    "partition=%s/%d: its log, read up to %d, was cut at %d: it has other records there",
                    *(*part, loss.position, loss.goes_on),
                )
                cuts[identities[part]] = [*cuts[identities[part]], loss.goes_on]
        return cuts


class _Retired(StatefulSourcePartition[RawBatch, Position]):
    """A partition that has a position and is not read: bytewax wants each it knows to be there."""

    def __init__(self, position: Position) -> None:
        self._position = position

    @override
    def next_batch(self) -> list[RawBatch]:
        raise StopIteration

    @override
    def snapshot(self) -> Position:
        return self._position


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)
