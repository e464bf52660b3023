"""One consumer for the partitions of a source that a process reads; what arrives is told apart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from recstream.connectors.kafka.admin import Topic, offset_bounds, topics
from recstream.connectors.kafka.client import (
    AWAY,
    NO_ANSWER,
    PASSING,
    KafkaFault,
    NoAnswerFault,
    Outage,
    StayedAwayFault,
    bad_settings,
    client_config,
    client_log,
    redact,
)
from recstream.connectors.kafka.losses import Loss, find_losses, loss_fault

__all__ = ["GroupMirror", "Inbox", "PartitionReader", "ReadingOptions", "epoch_of"]

_log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0
"""Seconds between reports of the lag, looks at a cluster in trouble, and commits to the group."""
_CLOSE_S: Final = 3.0
"""How long a clean stop waits for the group's coordinator."""
_LOOK_S: Final = 5.0
"""How long a cluster in trouble has to answer."""
_AT_ONCE: Final = 8
"""Partitions that may give as much as each is allowed to in one micro-batch."""
_MANY: Final = 100
"""Bytewax asks each partition by itself, and cannot be woken: of more, all are asked less often."""
_FETCH_MS: Final = 10
"""How long a broker waits for records before it answers; Tansu does so even if it has some."""
_FETCH_MS_A_PARTITION: Final = 0.25
"""A request names all partitions: of many, requests are fewer."""
_ANSWER_S: Final = 30.0
"""The longest time that a broker has for an answer."""
_PATIENCE: Final = 3
"""How often a partition is asked in vain before those that do not take what they have are held back."""
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_GONE: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - these are their public names
        KafkaError._LOG_TRUNCATION,  # noqa: SLF001
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)
"""The offset asked for is not held, or the log was cut before it."""
_OF_THE_GROUP: Final = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    }
)
"""librdkafka looks for the group's coordinator though nobody joins: reading needs none."""
_NO_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - these are their public names
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
"""Deleted, or not known yet to a broker that has just started."""


@dataclass(frozen=True)
class ReadingOptions:
    """How the partitions of a source are read, and whom they tell."""

    bootstrap: str
    client: Mapping[str, str] | None
    group: str
    """Consumer group to name; used where positions are mirrored to it."""
    mirrors: bool
    stopping: Callable[[], bool]
    on_lag: Callable[[str, int], None] | None
    on_epoch: Callable[[], None] | None
    on_loss: Callable[[str, int], None] | None
    on_trouble: Callable[[str, str], None]
    skips_losses: bool
    poll_max: int
    idle_s: float
    """Pause after a poll that found nothing, where partitions are few."""
    down_after_s: float
    outage: Outage
    buffer_kib: int
    """Bounds what is fetched ahead, what has arrived and is not taken, and what a partition gives at once."""
    before_ms: int | None
    """Records at or after this time are dropped."""


class Inbox:
    """What has arrived of a partition and was not taken yet."""

    __slots__ = (
        "arrived",
        "bytes",
        "emitted",
        "epoch",
        "high",
        "identity",
        "in_vain",
        "is_assigned",
        "is_held_back",
        "lag",
        "name",
        "next",
        "part",
    )

    def __init__(
        self, name: str, identity: str, offset: int, *, read: tuple[int, int] | None, high: int
    ) -> None:
        topic, _, number = name.rpartition("/")
        self.name = name
        self.identity = identity
        """Identity that the topic's description gives the partition, whatever was cut of its log."""
        self.part = TopicPartition(topic, int(number))
        self.next = offset
        """Offset of the next record to arrive."""
        self.epoch = read[1] if read is not None and read[0] == offset else None
        """Leader epoch of the record before, None where it is not known."""
        self.emitted = offset
        """Offset of the next record to be emitted."""
        self.high = high
        """Offset after the last record, as far as it is known."""
        self.arrived: list[Any] = []
        """Messages, ends of the partition (messages with an error), and losses, in their order."""
        self.bytes = 0
        """Size of the values that have arrived."""
        self.in_vain = 0
        self.is_held_back = False
        self.is_assigned = False
        self.lag = -1

    @property
    def key(self) -> tuple[str, int]:
        """Topic and number."""
        return self.part.topic, self.part.partition

    def take(self, records: int, size: int) -> list[Any]:
        """Take the first so many that have arrived, or fewer: of several, so many bytes at most."""
        count = min(records, len(self.arrived))
        if self.bytes > size:
            sizes = accumulate(_size_of(one) for one in self.arrived[:count])
            count = max(1, sum(1 for total in sizes if total <= size))
        taken, self.arrived = self.arrived[:count], self.arrived[count:]
        self.bytes = self.bytes - sum(map(_size_of, taken)) if self.arrived else 0
        return taken

    def start(self) -> TopicPartition:
        """Where the consumer goes on, checked against the leader's epochs where one is known."""
        if self.epoch is None:
            return TopicPartition(self.part.topic, self.part.partition, self.next)
        return TopicPartition(self.part.topic, self.part.partition, self.next, leader_epoch=self.epoch)


class _Trouble(NamedTuple):
    """Why nothing, or not everything, can be read just now."""

    since: float
    text: str
    stayed: str
    """What to say when it has lasted for too long."""
    pauses: bool
    """Whether nothing is read until the topics are known to be the same."""
    is_refusal: bool
    """Whether a right lacks: that it is back shows by what arrives."""


class _Silence(NamedTuple):
    """The cluster did not answer when it was asked."""

    heard: int
    """How often it had been heard of before."""
    of_leader: str
    """What a partition's leader did not answer; empty: no broker answered."""


class PartitionReader:
    """Polls one consumer for all its partitions, without blocking; each takes what is its own.

    * Whichever partition is asked first polls: `due` is when it has to. Until `awake` none needs to be asked.
    * Buffers are bounded, by records and by bytes: without room nothing is polled, unless partitions do not
      take what they have though others were asked several times. These are held back (paused in the
      consumer), and do not stop the rest.
    * A cluster that hangs or is away is waited for: all partitions are paused, and go on when the topics are
      known to be the ones that were read. So is a right that was taken away, and a leader that lacks.
    * Now and then the cluster is asked whether it is there, and the leader of each partition: of one that
      hangs as little is heard as of one that has nothing new, and the consumer may notice it late or never.
    * ``fault`` is what ends the reading; each partition raises it once it has emitted what it had.

    Any worker thread of the process may call it: one polls at a time.
    """

    def __init__(self, options: ReadingOptions, now: Callable[[], datetime]) -> None:
        self._r = options
        self._now = now
        self._lock = threading.Lock()
        self._inboxes: dict[tuple[str, int], Inbox] = {}
        self._new: list[Inbox] = []
        self._room = options.poll_max
        """Most records that may have arrived and not been taken. While the job catches up it makes a list for
        each user of a micro-batch: of few partitions, each may give all that it is allowed to."""
        self._room_bytes = 1024 * options.buffer_kib
        self._held = 0
        """Arrived and not taken, of partitions that are not held back."""
        self._held_bytes = 0
        self._consumer: Any = None
        self._mirror = GroupMirror(options.group if options.mirrors else None)
        self._pause_s = options.idle_s
        self._pause = timedelta(seconds=options.idle_s)
        self._tick_due = 0.0
        self._trouble: _Trouble | None = None
        self._is_paused = False
        self._looking: threading.Thread | None = None
        self._look_due = 0.0
        self._seen: str | None = None
        self._missed = 0
        self._gone: dict[tuple[str, int], Inbox] = {}
        self._losses: Mapping[tuple[str, int], Loss] | KafkaFault | str = {}
        self._settling: threading.Thread | None = None
        self._settle_due = 0.0
        self._group_warned = False
        self._patience_s = min(_ANSWER_S, max(1.0, options.down_after_s / 6))
        """Pause between two questions whether the cluster is there, and how long it has to answer one."""
        self._heard = 0
        """Polls that gave something."""
        self._asking: threading.Thread | None = None
        self._ask_due = time.monotonic() + self._patience_s
        self._silence: _Silence | None = None
        self.due = 0.0
        """Monotonic time from which on a partition that is asked polls."""
        self.awake: datetime | None = None
        """When partitions without records are to be asked again."""
        self.is_stopping = False
        self.fault: KafkaFault | None = None
        self.is_closed = False

    @property
    def is_away(self) -> bool:
        """Whether Kafka gives no answer, or reading has ended."""
        return self.fault is not None or (self._trouble is not None and self._trouble.pauses)

    def join(self, inbox: Inbox) -> None:
        """Add a partition; it is assigned with the next poll."""
        with self._lock:
            self._inboxes[inbox.key] = inbox
            self._new.append(inbox)
            self._set_pause()

    def poll(self, asker: Inbox) -> None:
        """Let the partitions have what has come, and do what is due. Does nothing while another thread does.

        Raises:
            KafkaSettingsFault: the settings of the consumer are refused.
        """
        if self.fault is not None or self.is_closed or not self._lock.acquire(blocking=False):
            return
        try:
            began = time.monotonic()
            self.is_stopping = self._r.stopping()
            if self.is_stopping:
                return
            if self._consumer is None:
                self._consumer = self._open()
            if self._new:
                new, self._new = self._new, []
                self._begin_at_next(new)
            has_more = bool(asker.arrived)
            if not has_more and self._has_room(asker):
                messages = self._consumer.consume(self._room, timeout=0)
                has_more = bool(messages)
                self._route(messages)
            if self._trouble is not None:
                self._while_in_trouble(self._trouble)
            else:
                self._ask_now_and_then()
            if self._gone:
                self._settle()
            if began >= self._tick_due:
                self._tick_due = began + _EVERY_S
                self._report_lags()
                self._mirror.send(self._consumer, away=self.is_away)
            self.due = 0.0 if has_more else began + self._pause_s
            self.awake = self._now() + self._pause
        finally:
            self._lock.release()

    def take(self, inbox: Inbox) -> list[Any]:
        """Take what has arrived of a partition, ``poll_max`` and ``buffer_kib`` at most."""
        with self._lock:
            before = inbox.bytes
            taken = inbox.take(self._r.poll_max, self._room_bytes)
            if not inbox.is_held_back:
                self._held -= len(taken)
                self._held_bytes -= before - inbox.bytes
            elif not inbox.arrived:
                inbox.is_held_back = False
                if not self._is_paused and self._consumer is not None:
                    self._consumer.resume([inbox.part])
            return taken

    def on_snapshot(self, inbox: Inbox, offset: int) -> None:
        """Learn of a partition's position at the end of an epoch."""
        if self._r.on_epoch is not None:
            self._r.on_epoch()
        with self._lock:
            self._mirror.on_snapshot(inbox.key, offset)

    def leave(self, inbox: Inbox) -> None:
        """Read a partition no more; the last one closes the consumer."""
        with self._lock:
            if self._inboxes.pop(inbox.key, None) is None:
                return
            self._gone.pop(inbox.key, None)
            if not inbox.is_held_back:
                self._held -= len(inbox.arrived)
                self._held_bytes -= inbox.bytes
            self._new = [other for other in self._new if other is not inbox]
            self._set_pause()
            if self._inboxes:
                if inbox.is_assigned and self._consumer is not None and not self.is_stopping:
                    self._consumer.incremental_unassign([inbox.part])
                return
            self.is_closed = True
            if self._consumer is None:
                return
            self._consumer.pause(self._consumer.assignment())
            is_away = self.is_away or self._r.outage.since is not None  # whoever has found it
            self._mirror.finish(self._consumer, _CLOSE_S, away=is_away)
            closing = self._close()
            if not is_away:
                closing.join(_CLOSE_S)
                if self._asking is not None:
                    self._asking.join(_EVERY_S)

    def abandon(self) -> None:
        """Close the consumer because of a fault; others of the partitions may have done it."""
        with self._lock:
            if self._consumer is not None:
                self._close()

    def _close(self) -> threading.Thread:
        """Close the consumer in a thread of its own, which may be left behind.

        With a commit unanswered, closing *or freeing* a consumer can take a minute; a stop, or the way
        out of a fault, cannot wait for that.
        """
        closing = threading.Thread(target=self._consumer.close, name="recstream-close", daemon=True)
        self._consumer = None
        closing.start()
        return closing

    def _set_pause(self) -> None:
        self._room = self._r.poll_max * min(max(1, len(self._inboxes)), _AT_ONCE)
        self._pause_s = self._r.idle_s * max(1.0, len(self._inboxes) / _MANY)
        self._pause = timedelta(seconds=self._pause_s)

    def _open(self) -> Any:
        ours = client_config(
            self._r.bootstrap,
            self._r.client,
            fetch_wait_max_ms=max(_FETCH_MS, int(_FETCH_MS_A_PARTITION * len(self._inboxes))),
            fetch_queue_backoff_ms=20,
            queued_min_messages=10 * self._r.poll_max,
            queued_max_messages_kbytes=self._r.buffer_kib,
            reconnect_backoff_max_ms=2000,
            # A broker that hangs keeps its connections: it is away once it left a request unanswered so long.
            socket_timeout_ms=int(1000 * self._patience_s),
        )
        fixed = {
            "group.id": self._r.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "error_cb": self._on_error,
            "on_commit": self._mirror.on_commit,
        }
        try:
            return Consumer({**ours, **fixed}, logger=client_log)
        except KafkaException as err:
            raise bad_settings(err, self._r.client) from None

    def _begin_at_next(self, inboxes: list[Inbox]) -> None:
        """Begin or begin anew the fetching, at the offset that is to arrive next."""
        if old := [inbox.part for inbox in inboxes if inbox.is_assigned]:
            self._consumer.incremental_unassign(old)
        self._consumer.incremental_assign([inbox.start() for inbox in inboxes])
        for inbox in inboxes:
            inbox.is_assigned = True
        if held := [inbox.part for inbox in inboxes if inbox.is_held_back or self._is_paused]:
            self._consumer.pause(held)

    def _assigned(self) -> list[Inbox]:
        return [inbox for inbox in self._inboxes.values() if inbox.is_assigned]

    def _has_room(self, asker: Inbox) -> bool:
        """Whether more may arrive; if it is for partitions that do not take theirs, hold these back."""
        if self._held < self._room and self._held_bytes < self._room_bytes:
            asker.in_vain = 0
            return True
        asker.in_vain += 1
        if asker.in_vain < _PATIENCE:
            return False
        asker.in_vain = 0
        full = [inbox for inbox in self._inboxes.values() if inbox.arrived and not inbox.is_held_back]
        for inbox in full:
            inbox.is_held_back = True
            self._held -= len(inbox.arrived)
            self._held_bytes -= inbox.bytes
        self._consumer.pause([inbox.part for inbox in full])
        return True

    def _route(self, messages: list[Any]) -> None:
        self._heard += bool(messages)
        for message in messages:
            inbox = self._inboxes.get((message.topic(), message.partition()))
            error = message.error()
            if error is not None and error.code() != _EOF:
                self._on_message_error(error, inbox)
                continue
            if inbox is None:
                continue
            if error is None:
                offset = message.offset()
                if offset < inbox.next:
                    continue
                inbox.next, inbox.epoch = offset + 1, epoch_of(message)
            elif message.offset() > inbox.next:  # behind markers of transactions
                inbox.next, inbox.epoch = message.offset(), None
            size = len(message)
            inbox.arrived.append(message)
            inbox.bytes += size
            if not inbox.is_held_back:
                self._held += 1
                self._held_bytes += size
            if self._trouble is not None and self._trouble.is_refusal:
                self._is_over(self._trouble)

    def _on_message_error(self, error: Any, inbox: Inbox | None) -> None:
        code = error.code()
        where = self._where if inbox is None else f"{inbox.name} at {self._r.bootstrap}"
        if code in _OF_THE_GROUP:
            self._on_group_error(error)
        elif code in _GONE and inbox is not None:
            self._gone[inbox.key] = inbox
        elif code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            text = f"no right to read {where}"
            mend = "grant Read and Describe on the topic; the position is kept, a restart goes on from it"
            self._begin(text, f"{text} for {self._r.down_after_s:g} s; {mend}", is_refusal=True)
        elif code in _NO_TOPIC or code in PASSING or code in AWAY or error.retriable():
            text = f"{where}: {error.name()}"
            mend = "check the brokers; the position is kept, a restart goes on from it"
            self._begin(text, f"{text} for {self._r.down_after_s:g} s; {mend}")
        elif inbox is None and not error.fatal():
            _log.warning("%s: error=%s: waiting for it to pass", where, error.name())
        else:
            at = "" if inbox is None else f" from offset {inbox.next}"
            text = redact(error.str(), self._r.client)
            mend = "check that the topic still exists, its retention, and our right to read it"
            self._fail(KafkaFault(f"Kafka refuses to read {where}{at}: {text}; {mend}"))

    def _on_error(self, error: Any) -> None:
        text = redact(error.str(), self._r.client)
        if error.fatal():
            self._fail(KafkaFault(f"Kafka does not let us read {self._where}: {text}; a restart goes on"))
        elif error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):  # noqa: SLF001
            self._begin(
                f"the broker does not let us in: {text}",
                f"{self._where}: for {self._r.down_after_s:g} s the broker has not let us in: {text}; "
                "correct the security settings in kafka.client; the position is kept, a restart goes on",
                pauses=True,
            )
        elif error.code() in _OF_THE_GROUP:
            self._on_group_error(error)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._begin_absence()

    def _on_group_error(self, error: Any) -> None:
        if self._r.mirrors and not self._group_warned:
            self._group_warned = True
            _log.warning(
                "group=%s: %s: positions may not be mirrored to it; reading goes on",
                self._r.group,
                error.str(),
            )

    @property
    def _where(self) -> str:
        names = sorted({topic for topic, _ in self._inboxes})
        return f"{', '.join(names)} at {self._r.bootstrap}"

    def _begin(self, text: str, stayed: str, *, pauses: bool = False, is_refusal: bool = False) -> None:
        """Note a trouble; one that pauses the reading takes the place of one that does not."""
        old = self._trouble
        if self.is_closed or (old is not None and (old.pauses or not pauses)):
            return
        since = old.since if old is not None else time.monotonic()
        self._trouble = _Trouble(since, text, stayed, pauses, is_refusal)
        self._missed = 0
        self._r.on_trouble(self._where, text)
        _log.warning("%s: %s, waiting up to %g s", self._where, text, self._r.down_after_s)

    def _begin_absence(self) -> None:
        self._begin(
            NO_ANSWER,
            f"no broker of {self._where} has answered for {self._r.down_after_s:g} s; "
            "check that Kafka runs and is reachable; the position is kept, a restart goes on from it",
            pauses=True,
        )

    def _is_over(self, trouble: _Trouble) -> None:
        _log.warning("%s: Kafka answers again (%s)", self._where, trouble.text)
        self._trouble = None
        self._r.outage.end()
        self._r.on_trouble(self._where, "")

    def _while_in_trouble(self, trouble: _Trouble) -> None:
        """Look at the topics again and again; go on when all is well, give up when it has lasted too long.

        While no broker answers nothing is read: another topic under the same name would be taken for the old
        one, its events would seem absorbed already.
        """
        if trouble.pauses and not self._is_paused:
            self._is_paused = True
            self._consumer.pause([inbox.part for inbox in self._assigned()])
        if self._looking is not None and not self._looking.is_alive():
            self._looking, seen, self._seen = None, self._seen, None
            self._look_due = time.monotonic() + _EVERY_S
            if seen:
                self._fail(KafkaFault(seen))
            elif seen is not None and trouble.is_refusal:
                self._begin_at_next(self._assigned())  # what arrives, or the error again, tells
            elif seen is not None:
                if self._is_paused:
                    self._is_paused = False
                    going = [inbox.part for inbox in self._assigned() if not inbox.is_held_back]
                    self._consumer.resume(going)
                self._is_over(trouble)
                return
        if self._looking is None and time.monotonic() >= self._look_due:
            parts = {inbox.key: inbox.identity for inbox in self._inboxes.values()}
            self._looking = threading.Thread(
                target=self._look, args=(parts, trouble), name="recstream-look", daemon=True
            )
            self._looking.start()
        since = self._r.outage.begin(trouble.since) if trouble.pauses else trouble.since
        if time.monotonic() - since > self._r.down_after_s:
            self._fail(StayedAwayFault(trouble.stayed))

    def _ask_now_and_then(self) -> None:
        """Ask, in a thread of its own, whether the cluster is there, and the leader of each partition."""
        if self._asking is None:
            if time.monotonic() < self._ask_due:
                return
            asked = (list(self._inboxes), self._heard)
            self._asking = threading.Thread(target=self._ask, args=asked, name="recstream-ask", daemon=True)
            self._asking.start()
            return
        if self._asking.is_alive():
            return
        self._asking, silence, self._silence = None, self._silence, None
        self._ask_due = time.monotonic() + self._patience_s
        if silence is None:
            return
        if silence.of_leader:
            self._begin(silence.of_leader, f"{silence.of_leader}; waited for {self._r.down_after_s:g} s")
        elif silence.heard == self._heard:
            self._begin_absence()

    def _ask(self, parts: Sequence[tuple[str, int]], heard: int) -> None:
        r, names = self._r, sorted({topic for topic, _ in parts})
        try:
            found = topics(r.bootstrap, names, client=r.client, timeout_s=self._patience_s)
        except NoAnswerFault:
            self._silence = _Silence(heard, "")
            return
        except KafkaFault:
            return  # an answer, too; what it means the consumer hears
        there = [part for part in parts if part[0] in found and part[1] in found[part[0]].partitions]
        try:
            offset_bounds(r.bootstrap, there, client=r.client, timeout_s=self._patience_s)
        except NoAnswerFault as fault:
            self._silence = _Silence(heard, f"{fault}")
        except KafkaFault:
            return

    def _look(self, parts: Mapping[tuple[str, int], str], trouble: _Trouble) -> None:
        """Look up the topics, in a thread of its own: the worker must not block."""
        r, names = self._r, sorted({topic for topic, _ in parts})
        try:
            found = topics(r.bootstrap, names, client=r.client, timeout_s=_LOOK_S)
            there = [part for part in parts if part[0] in found and part[1] in found[part[0]].partitions]
            if not trouble.pauses:
                offset_bounds(r.bootstrap, there, client=r.client, timeout_s=_LOOK_S)
        except KafkaFault:
            return
        if len(there) < len(parts):
            self._missed += 1  # a broker that has just started may not know all of them
            if self._missed > 1 and not trouble.is_refusal:
                missing = sorted(f"{topic}/{number}" for topic, number in parts.keys() - set(there))
                self._seen = f"Kafka at {r.bootstrap} has no {', '.join(missing[:3])} any more; start again"
            return
        self._seen = self._other_topic(parts, found)

    def _settle(self) -> None:
        """Find out, in a thread of its own, what was lost of partitions whose next offset is not held."""
        if self._settling is None:
            if time.monotonic() < self._settle_due:
                return
            asked = {key: (inbox.next, inbox.epoch, inbox.identity) for key, inbox in self._gone.items()}
            self._settling = threading.Thread(
                target=self._find_losses, args=(asked,), name="recstream-losses", daemon=True
            )
            self._settling.start()
            return
        if self._settling.is_alive():
            return
        self._settling, self._settle_due = None, time.monotonic() + _EVERY_S
        found, self._losses = self._losses, {}
        if isinstance(found, str):
            self._fail(KafkaFault(found))
            return
        if isinstance(found, KafkaFault):
            self._begin(f"{found}", f"{found}; waited for {self._r.down_after_s:g} s")
            return
        for key, loss in found.items():
            inbox = self._gone.pop(key, None)
            if inbox is None:
                continue  # it has left
            if loss.offsets and not self._r.skips_losses:
                self._fail(loss_fault(inbox.name, loss))
                return
            if loss.offsets:
                inbox.next, inbox.epoch = loss.goes_on, None
                inbox.arrived.append(loss)
                self._held += not inbox.is_held_back
            self._begin_at_next([inbox])

    def _find_losses(self, asked: Mapping[tuple[str, int], tuple[int, int | None, str]]) -> None:
        r, names = self._r, sorted({topic for topic, _ in asked})
        try:
            self._losses = self._other_topic(
                {part: identity for part, (_, _, identity) in asked.items()},
                topics(r.bootstrap, names, client=r.client, timeout_s=_LOOK_S),
            ) or find_losses(
                r.bootstrap,
                {part: (position, epoch) for part, (position, epoch, _) in asked.items()},
                client=r.client,
                group=r.group,
                timeout_s=_LOOK_S,
            )
        except KafkaFault as fault:
            self._losses = fault

    def _other_topic(self, identities: Mapping[tuple[str, int], str], found: Mapping[str, Topic]) -> str:
        """Say what was made again under its name; empty: nothing."""
        for (topic, number), identity in identities.items():
            now = found[topic].identity(number) if topic in found else "(no such topic)"
            if now != identity:
                return (
                    f"{topic}/{number} at {self._r.bootstrap} was {identity} and is now {now}: the topic was "
                    "re-created during an outage; restart, and it is read from the configured start"
                )
        return ""

    def _fail(self, fault: KafkaFault) -> None:
        """Note a fault to raise at the end of an empty batch: callbacks cannot raise, records come first."""
        self.fault = self.fault or fault

    def _report_lags(self) -> None:
        if self._r.on_lag is None:
            return
        for inbox in self._assigned():
            marks = self._consumer.get_watermark_offsets(inbox.part, cached=True)
            inbox.high = max(inbox.high, marks[1] if marks else 0)  # below 0 before the first answer
            lag = max(0, inbox.high - inbox.emitted)
            if lag != inbox.lag:
                inbox.lag = lag
                self._r.on_lag(inbox.name, lag)


def _size_of(arrived: Any) -> int:
    """Bytes of what has arrived."""
    return 0 if isinstance(arrived, Loss) else len(arrived)


def epoch_of(message: Any) -> int | None:
    """The leader epoch of a record; None of one that has none, for brokers may not tell it."""
    epoch: int | None = message.leader_epoch()
    return None if epoch is None or epoch < 0 else epoch


class GroupMirror:
    """Shows the positions of partitions in a consumer group.

    Bytewax does not tell a source when an epoch is committed. When it asks for a snapshot it has closed the
    epoch of the one before, so that is what is committed to the group, at most once a second. A failure is
    a warning: the recovery store holds the truth. Without a group nothing happens.
    """

    def __init__(self, group: str | None) -> None:
        self._group = group
        self._taken: dict[tuple[str, int], int] = {}
        self._closed: dict[tuple[str, int], int] = {}
        """Of closed epochs, to be sent."""
        self._sent: dict[tuple[str, int], int] = {}
        self._due = 0.0
        self._waiting = 0
        self._warned = ""

    def on_snapshot(self, part: tuple[str, int], offset: int) -> None:
        """Remember this snapshot; the one before may be sent."""
        before = self._taken.get(part)
        self._taken[part] = offset
        if before is not None:
            self._closed[part] = before

    def on_commit(self, error: object, _partitions: object) -> None:
        """Take librdkafka's answer to a commit."""
        self._waiting -= 1
        if error is None:
            self._warned = ""
        else:
            self._warn(error)

    def send(self, consumer: Any, *, away: bool) -> None:
        """Commit what may be sent, unless Kafka is away."""
        if away or self._group is None or time.monotonic() < self._due:
            return
        new = {part: offset for part, offset in self._closed.items() if self._sent.get(part) != offset}
        if new:
            self._due = time.monotonic() + _EVERY_S
            self._send(consumer, new)

    def finish(self, consumer: Any, timeout_s: float, *, away: bool) -> None:
        """Commit the last snapshots and wait for the answer; nothing while Kafka is away."""
        if away:
            return
        self._closed, self._due = self._taken, 0.0
        self.send(consumer, away=False)
        deadline = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < deadline:
            consumer.poll(0.01)
        if self._waiting:
            self._warn(f"no answer within {timeout_s:g} s")

    def _send(self, consumer: Any, offsets: Mapping[tuple[str, int], int]) -> None:
        self._sent.update(offsets)
        self._closed = {}
        self._waiting += 1
        try:
            consumer.commit(
                offsets=[TopicPartition(*part, offset) for part, offset in offsets.items()],
                asynchronous=True,
            )
        except KafkaException as err:
            self._waiting -= 1
            self._warn(err)

    def _warn(self, why: object) -> None:
        if str(why) != self._warned:  # each second the same
            self._warned = str(why)
            _log.warning("group=%s: positions not mirrored: %s", self._group, why)
