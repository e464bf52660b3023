"""Contract suites of connectors: subclass with the abstract methods, and pytest runs them."""

from __future__ import annotations

import pickle
import time
from abc import ABC, abstractmethod
from typing import Any, Final

import pytest
from bytewax.inputs import StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink

from recstream.connectors.base import Connector, ConnectorError, MessageSink, ReadOptions
from recstream.records.transport import Message, RawBatch

__all__ = ["SinkContract", "SourceContract"]

_PATIENCE_S: Final = 20.0
"""Seconds within which a record must come, or a source end."""
_RECORDS: Final = [b'{"n": %d}' % number for number in range(700)]
"""More than one batch of most sources."""

Part = StatefulSourcePartition[RawBatch, Any]
Row = tuple[int, bytes]


class SourceContract(ABC):
    """Every source passes these; a place of the suite has one partition."""

    @abstractmethod
    def connector(self) -> Connector:
        """The connector under test."""

    @abstractmethod
    def place(self, records: list[bytes]) -> str:
        """Address of a new place that holds these records, in one partition, in this order."""

    @abstractmethod
    def replace(self, address: str, records: list[bytes]) -> None:
        """Put another log of these records in the place of the old one."""

    @abstractmethod
    def missing(self) -> str:
        """Address of a place that is not there."""

    def test_every_record_is_read_once_and_in_order(self) -> None:
        """Offsets grow, and a source with a stop ends."""
        part = self._open(self.place(_RECORDS), stop="end")
        rows = self._read(part)
        assert [value for _, value in rows] == _RECORDS
        offsets = [offset for offset, _ in rows]
        assert offsets == sorted(set(offsets))

    def test_reading_goes_on_from_any_position(self) -> None:
        """Nothing is lost and nothing comes twice, wherever it was interrupted."""
        address = self.place(_RECORDS)
        whole = self._read(self._open(address, stop="end"))
        part, position = self._open(address, stop="end"), None
        rows: list[Row] = []
        for _ in range(len(_RECORDS)):
            batch = self._poll(part)
            if not batch:
                break
            rows += batch
            position = part.snapshot()
            part.close()
            part = self._open(address, position, stop="end")
        part.close()
        assert position is not None
        assert rows == whole

    def test_a_position_is_plain_data_and_knows_its_partition(self) -> None:
        """It is read years later, by other code."""
        address = self.place(_RECORDS[:3])
        source = self.connector().source(address, ReadOptions(stop="end"))
        (name,) = source.list_parts()
        part = source.build_part("contract", name, None)
        batch = self._batches(part)[0]
        position = part.snapshot()
        part.close()
        assert _is_plain(position), (
            f"{position!r} has more than tuples, lists, dictionaries, text and numbers"
        )
        assert self.connector().identity_of(position) == batch.partition.identity
        assert batch.partition.name == name
        assert self.connector().owns(address, name)

    def test_another_log_in_the_same_place_is_read_from_its_beginning(self) -> None:
        """A position of the old one would leave records out."""
        address = self.place(_RECORDS[:5])
        part = self._open(address, stop="end")
        self._read(part, close=False)
        position = part.snapshot()
        part.close()
        others = [b'{"other": %d}' % number for number in range(3)]
        self.replace(address, others)
        assert [value for _, value in self._read(self._open(address, position, stop="end"))] == others

    def test_a_stop_ends_it(self) -> None:
        """What was emitted before stands in the position."""
        asked = False
        address = self.place(_RECORDS)
        part = self._open(address, stopping=lambda: asked)
        rows = self._poll(part)
        asked = True
        with pytest.raises(StopIteration):
            part.next_batch()
        position = part.snapshot()
        part.close()
        rows += self._read(self._open(address, position, stop="end"))
        assert [value for _, value in rows] == _RECORDS

    def test_records_are_read_outside_a_dataflow(self) -> None:
        """As commands do."""
        found = list(self.connector().records(self.place(_RECORDS)))
        assert [one.value for one in found] == _RECORDS
        assert len({one.place for one in found}) == len(_RECORDS)

    def test_a_place_that_is_missing_is_a_fault_that_can_be_pickled(self) -> None:
        """It crosses processes."""
        address = self.missing()
        with pytest.raises(ConnectorError) as caught:
            self._read(self._open(address, stop="end"))
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes

    def _open(self, address: str, position: Any = None, **options: Any) -> Part:
        source = self.connector().source(address, ReadOptions(**options))
        source.check()
        (name,) = source.list_parts()
        return source.build_part("contract", name, position)

    def _batches(self, part: Part) -> list[RawBatch]:
        """The next batches, none at the end."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                batches = list(part.next_batch())
            except StopIteration:
                return []
            if batches:
                return batches
            time.sleep(0.002)
        pytest.fail(f"no record and no end within {_PATIENCE_S:g} s")

    def _poll(self, part: Part) -> list[Row]:
        return [row for batch in self._batches(part) for row in zip(batch.offsets, batch.values, strict=True)]

    def _read(self, part: Part, *, close: bool = True) -> list[Row]:
        rows: list[Row] = []
        while batch := self._poll(part):
            rows += batch
        if close:
            part.close()
        return rows


class SinkContract(ABC):
    """Every sink passes these; a place of the suite has one partition."""

    @abstractmethod
    def connector(self) -> Connector:
        """The connector under test."""

    @abstractmethod
    def new_place(self) -> str:
        """Address of an empty place, or of a file that is not there."""

    @abstractmethod
    def contents(self, address: str) -> list[bytes]:
        """The values that are there, in their order."""

    @abstractmethod
    def unwritable(self) -> str:
        """Address of a place that cannot be written."""

    def test_what_is_written_is_there_at_the_end_of_the_epoch(self) -> None:
        """Before the sink is closed: the epoch commits then."""
        address = self.new_place()
        part = _open(self.connector().sink(address))
        sent = _messages(0, 600)
        part.write_batch(sent[:1])
        part.write_batch(sent[1:])
        _end_epoch(part)
        assert self.contents(address) == [one.value for one in sent]
        part.close()

    def test_an_epoch_that_is_written_again_loses_nothing(self) -> None:
        """A sink with a state has each message once, one without may have the last epoch twice."""
        address = self.new_place()
        committed, last = _messages(0, 5), _messages(5, 8)
        part = _open(self.connector().sink(address))
        part.write_batch(committed)
        state = _end_epoch(part)
        part.write_batch(last)
        again = _open(self.connector().sink(address), state)
        again.write_batch(last)
        _end_epoch(again)
        again.close()
        found = self.contents(address)
        part.close()  # only now: a process that died would not have closed it
        if state is None:
            found = list(dict.fromkeys(found))
        assert found == [one.value for one in committed + last]

    def test_a_writer_works_outside_a_dataflow(self) -> None:
        """What was given to it is safe when ``write`` returns."""
        address = self.new_place()
        writer = self.connector().writer(address)
        for number in range(3):
            writer.write(_messages(number, number + 1))
            assert len(self.contents(address)) == number + 1
        writer.close()

    def test_a_place_that_cannot_be_written_is_a_fault_that_can_be_pickled(self) -> None:
        """It crosses processes."""
        address = self.unwritable()
        with pytest.raises(ConnectorError) as caught:
            _open(self.connector().sink(address))
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes


def _messages(first: int, last: int) -> list[Message]:
    return [Message(b"key", b'{"n": %d}' % number) for number in range(first, last)]


def _open(sink: MessageSink, state: Any = None) -> Any:
    if isinstance(sink, FixedPartitionedSink):
        return sink.build_part("contract", sink.list_parts()[0], state)
    return sink.build("contract", 0, 1)


def _end_epoch(part: Any) -> Any:
    return part.snapshot() if hasattr(part, "snapshot") else None


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))  # type: ignore[call-overload]  # it is one of these two
    return value is None or type(value) in (str, int, float, bool, bytes)
