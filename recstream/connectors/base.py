"""The contract of a connector: one kind of place that records are read from or written to.

A place is named by an address: ``SCHEME:NAME`` of a connector that `recstream.connectors.CONNECTORS` has, or
else the path of a file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import DynamicSink, FixedPartitionedSink, StatefulSinkPartition, StatelessSinkPartition
from typing_extensions import Self, override

from recstream.records.bounds import Bound
from recstream.records.transport import Message, RawBatch

__all__ = [
    "Connector",
    "ConnectorError",
    "Demands",
    "Finding",
    "MessageSink",
    "NullSink",
    "PartitionPosition",
    "PartitionWatch",
    "ReadOptions",
    "RecordSource",
    "RecordWriter",
    "StoredRecord",
    "never",
    "unthrottled",
    "untold",
]

S = TypeVar("S")

MessageSink: TypeAlias = DynamicSink[Message] | FixedPartitionedSink[Message, Any]
"""Where a dataflow writes messages. A partitioned sink is given ``(key, message)`` pairs, a dynamic one the
messages alone. What an epoch wrote must be safe before ``write_batch`` or ``snapshot`` returns, for then the
epoch commits. After a crash the last epoch is written again."""


class ConnectorError(Exception):
    """A place cannot be read or written as asked; the message says what, where, got, wanted and how to mend.

    Commands print it without a traceback. It must survive pickling, for it crosses processes: hand every
    argument of the constructor to ``super().__init__``.
    """

    exit_code: ClassVar[int] = 1
    """Exit code of a command that ends with it; 2 means that the settings have to be changed."""
    was_waited_for: ClassVar[bool] = False
    """Whether the place stayed away for as long as the settings allow: a job is not started again then."""


class Finding(NamedTuple):
    """One thing that `recstream doctor` looked at."""

    name: str
    """What: ``settings``, ``broker``, ``topic events``, ``model``, ``encode``, ``store``, ..."""
    ok: bool
    detail: str
    """What was found."""
    mend: str = ""
    """What to do about it; empty when all is well."""
    is_warning: bool = False
    """The job runs as it is (``ok``), and yet something should be mended."""


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a job asks of the places it reads and writes."""

    partitions: int = 4
    """To advise for a place that lacks."""
    processes: int = 1
    """So many share what is read."""
    record_bytes: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Bytes of the largest record written to a place, and what makes it so large, by the setting that names
    the place."""


class PartitionPosition(NamedTuple):
    """How far a partition was read, and what it holds. None: not known, or there is none."""

    partition: str
    """``"events/3"``."""
    position: int | None
    """Offset of the next record to read."""
    first: int | None
    """First offset held."""
    last: int | None
    """Last offset held; below the first where it holds nothing."""
    lag: int | None
    """Records that are not read yet, of those held."""
    lag_s: float | None
    """Seconds since the next record to read was written; 0 when all is read."""
    retention_left_s: float | None
    """Seconds until the next record to read may be deleted for its age; below 0: at any time."""
    trouble: str = ""
    """What is wrong with the position; the job does not go on from it."""

    @property
    def lag_share(self) -> float:
        """Share of the records held that are not read yet.

        >>> PartitionPosition("e/0", 5, 0, 9, 5, None, None).lag_share
        0.5
        """
        if self.lag is None or self.first is None or self.last is None:
            return 0.0
        return self.lag / max(self.last + 1 - self.first, 1)


class StoredRecord(NamedTuple):
    """One record read outside a dataflow."""

    place: str
    """Where it is, for people: ``"events/3:17"``, ``"log.jsonl:17"``."""
    value: bytes | None
    """None for a tombstone."""
    key: bytes | None = None
    """As it was written; None where records have none."""


def never() -> bool:
    """No stop is asked for."""
    return False


def untold(place: str, trouble: str) -> None:
    """Nobody is told of the troubles of a place."""


def unthrottled(place: str, seconds: float) -> None:
    """Nobody is told for how long a place holds its writers back."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What part of a place a source reads, and whom it tells. A source ignores what it has no use for."""

    start: Bound = "earliest"
    """Where partitions without a stored position begin."""
    stop: Bound | None = None
    """Where the source ends; None: only when ``stopping`` says so. Files end by themselves."""
    limit: int = 0
    """Only the first so many records of each partition; 0: all."""
    stopping: Callable[[], bool] = never
    """Asked before each batch; when it says yes, every partition ends: the clean stop."""
    on_lag: Callable[[str, int], None] | None = None
    """Called with a partition's name and how many records it is behind, at most once a second."""
    on_epoch: Callable[[], None] | None = None
    """Called with each snapshot of a partition: the epoch before has been closed."""
    on_loss: Callable[[str, int], None] | None = None
    """Called with a partition's name and how many offsets it passed over: their records are gone."""
    is_urgent: bool = True
    """Whether somebody waits for what records change: then a source that has none looks again sooner."""
    is_live: bool = False
    """Whether positions are shown to tools that watch how far behind the job is."""
    known: Collection[str] = ()
    """Identities of partitions that have a stored position."""
    kept: Collection[str] = ()
    """Names of partitions that have a stored position."""
    positions: Sequence[Any] = ()
    """All positions that are stored of such places, by whatever read them."""
    key: Callable[[bytes], float | None] | None = None
    """Files: what their records are sorted by; a record of which it gives None stays behind the one before
    it. None: they are read as they are."""


class RecordSource(FixedPartitionedSource[RawBatch, S]):
    """Records of a place as batches of raw bytes, one bytewax partition for each of its ordered logs.

    * Each batch holds consecutive records of one partition; offsets grow strictly and mean the same record
      for ever.
    * A partition has an identity beside its name: another one as soon as its content is another log
      (a topic made again, a file replaced), for users remember which offsets of an identity they absorbed.
    * A snapshot is plain data (tuples, dictionaries, text, numbers). From it ``build_part`` goes on with the
      record after the last one emitted: nothing lost, nothing twice. When the identity is not the stored one,
      it begins anew, with a warning.
    * Where partitions come and go, ``list_parts`` lists those of ``kept`` too: bytewax wants each that has a
      stored position.
    * ``next_batch`` does not block. It raises StopIteration at the end, and when ``stopping()`` says so.
    * Faults are `ConnectorError`. Making a source opens nothing.
    """

    def check(self) -> None:
        """Find what is wrong with the place before a dataflow is started for it.

        Raises:
            ConnectorError: it cannot be read.
        """

    def progress(self) -> float | None:
        """Share read so far, 0 to 1, from any thread; None where the end is not known."""
        return None


class PartitionWatch:
    """Notices when what a job reads is not what it was: partitions were added. This one notices nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, stopping: Callable[[], bool]) -> None:
        """Note the partitions there are, before the reading of them begins."""

    def grown(self) -> str:
        """Say, for a log, why a new start is due: more partitions, another place; empty when none is."""
        return ""


class RecordWriter:
    """Writes to a sink outside a dataflow."""

    def __init__(self, sink: MessageSink) -> None:
        self._partition: StatefulSinkPartition[Message, Any] | StatelessSinkPartition[Message]
        if isinstance(sink, FixedPartitionedSink):
            self._partition = sink.build_part("writer", sink.list_parts()[0], None)
        else:
            self._partition = sink.build("writer", 0, 1)

    def write(self, messages: list[Message]) -> None:
        """Write; all of it is safe afterwards."""
        self._partition.write_batch(messages)
        if isinstance(self._partition, StatefulSinkPartition):
            self._partition.snapshot()

    def close(self) -> None:
        """Leave."""
        self._partition.close()


class Connector(ABC):
    """One kind of place. `source` and `identity_of` are enough for one that is only read.

    ``options`` are the settings of the section that has the connector's scheme for a name, as plain values;
    empty where there is none.
    """

    scheme: ClassVar[str]
    """What its addresses begin with, without the colon."""
    has_bounds: ClassVar[bool] = False
    """Whether its sources begin and end at ``start`` and ``stop``; the others take a ``limit``."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.on_trouble: Callable[[str, str], None] = untold
        """Called by sources and sinks with a place that gives no answer and why, perhaps again and again, and
        with an empty text once it answers."""
        self.on_throttled: Callable[[str, float], None] = unthrottled
        """Called by sinks with a place and each time, in seconds, for which it holds them back."""
        self.process = 0
        """Number of this process among those that run a dataflow together."""
        self.processes = 1

    @property
    def patience_s(self) -> float:
        """Seconds that sources and sinks wait for a place that gives no answer, at most."""
        return 0.0

    @property
    def location(self) -> str:
        """Where its places are, for people, such as the address of a server; empty where they say it."""
        return ""

    def name_of(self, address: str) -> str:
        """The address without the scheme."""
        return address.removeprefix(f"{self.scheme}:")

    @abstractmethod
    def source(self, address: str, options: ReadOptions) -> RecordSource[Any]:
        """Make a source for a dataflow.

        Raises:
            ConnectorError: the address or the options make no sense.
        """

    @abstractmethod
    def identity_of(self, position: Any) -> str:
        """Identity of the partition that a stored position of such a source belongs to."""

    def owns(self, address: str, partition: str) -> bool:
        """Whether a partition of this name is one of the place's."""
        return partition == self.name_of(address)

    def position_name(self, address: str) -> str:
        """What tells positions of this place from those of another one, wherever the place may be moved."""
        return address

    def sink(self, address: str) -> MessageSink:
        """Make a sink for a dataflow.

        Raises:
            ConnectorError: nothing can be written there.
        """
        msg = f"{address}: {self.scheme} can only be read; name another place to write to"
        raise ConnectorError(msg)

    def writer(self, address: str) -> RecordWriter:
        """Open a place for writing outside a dataflow.

        Raises:
            ConnectorError: nothing can be written there.
        """
        return RecordWriter(self.sink(address))

    def records(
        self,
        address: str,
        *,
        start: Literal["earliest", "latest"] = "earliest",
        follow: bool = False,
        idle_s: float | None = None,
    ) -> Iterator[StoredRecord]:
        """Read all there is outside a dataflow, partition by partition, leaving no trace.

        A connector that can also wait for more does so with ``follow``, until none came for ``idle_s``.

        Raises:
            ConnectorError: it cannot be read.
        """
        source = self.source(address, ReadOptions(stop="end"))
        for name in source.list_parts():
            partition = source.build_part("records", name, None)
            try:
                while True:
                    try:
                        batches = partition.next_batch()
                    except StopIteration:
                        break
                    for batch in batches:
                        for offset, value in zip(batch.offsets, batch.values, strict=True):
                            yield StoredRecord(self.place_of(address, name, offset), value)
            finally:
                partition.close()

    def read_before(self, address: str) -> str:
        """Say, for people, by what the place shows that a live job has read it; empty where it shows nothing.

        Raises:
            ConnectorError: it gives no answer.
        """
        return ""

    def written_before(self, address: str) -> str:
        """Say, for people, that there are records; empty where there are none.

        Raises:
            ConnectorError: it gives no answer.
        """
        return ""

    def place_of(self, address: str, partition: str, offset: int) -> str:
        """Name a record for people."""
        return f"{partition}:{offset}"

    def check(self, *, reads: Sequence[str], writes: Sequence[str]) -> None:  # noqa: B027 - most have nothing
        """Find settings that no new start would mend, before a live job is started.

        Such are places that do not exist, and those that we have no right to read or to write.
        A place that gives no answer may do so later, and is waited for by those who read it.

        Raises:
            ConnectorError: of exit code 2.
        """

    def watch(self, addresses: Sequence[str]) -> PartitionWatch:
        """Make what notices partitions added to places that a job reads; within ``with`` it is at work."""
        return PartitionWatch()

    def diagnose(self, places: Mapping[str, str], demands: Demands, *, timeout_s: float) -> Iterator[Finding]:
        """Look at the addresses that settings name (by ``section.field``), changing and raising nothing.

        ``timeout_s`` is for each answer.
        """
        return iter(())

    def create(
        self,
        places: Mapping[str, str],
        demands: Demands,
        *,
        partitions: int | None = None,
        copies: int | None = None,
        dry_run: bool = False,
    ) -> Iterator[Finding]:
        """Make those of the places that lack, as a job wants them, and say of the others what differs.

        ``partitions`` and ``copies`` are for each place; None: as is advised. With ``dry_run`` nothing is
        made. A place that exists is left as it is.

        Raises:
            ConnectorError: they cannot be looked at.
        """
        return iter(())

    def positions(
        self, address: str, stored: Mapping[str, Any], *, in_full: bool = True
    ) -> list[PartitionPosition]:
        """Compare positions of a place, by partition, with what the place holds; changes nothing.

        Without ``in_full`` times are left out, and so is all that takes reading a record to know.

        Raises:
            ConnectorError: the place gives no answer, or positions of such places cannot be compared.
        """
        msg = f"{address}: positions are kept, but what {self.scheme} holds cannot be told"
        raise ConnectorError(msg)

    def moved(self, address: str, stored: Mapping[str, Any], to: Bound) -> dict[str, Any]:
        """Give positions from which reading goes on at ``to``, in the place of the stored ones, by partition.

        Offsets (a mapping) leave partitions as they are which they do not name.

        Raises:
            ConnectorError: the place gives no answer, or does not hold what is asked for.
        """
        msg = f"{address}: positions of {self.scheme} cannot be set"
        raise ConnectorError(msg)


class _Nowhere(StatelessSinkPartition[Message]):
    @override
    def write_batch(self, items: list[Message]) -> None:
        """Drop them."""


class NullSink(DynamicSink[Message]):
    """A sink that drops messages: for a replay that rebuilds the state and makes no lists."""

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Nowhere:
        return _Nowhere()
