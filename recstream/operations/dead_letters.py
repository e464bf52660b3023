"""Dead letters: read from a topic, a file or standard input, and sent again once they are mended."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.connectors.base import RecordWriter
from recstream.encoders import open_encoder
from recstream.records.actions import DecodeRules
from recstream.records.dead_letter import (
    DeadLetter,
    DeadLetterError,
    Mended,
    StreamName,
    dead_letter_from,
    mend,
)
from recstream.records.reject import Reason, Reject
from recstream.records.transport import Message
from recstream.runtime.wiring import decode_rules, encoder_spec

__all__ = ["STDIN", "Line", "Resend", "Unsent", "Why", "read_lines"]

STDIN: Final = "-"
_AT_ONCE: Final = 500
"""Records sent together."""
_BYTES_AT_ONCE: Final = 8_000_000
"""Bytes of records after which those pending are sent."""

Why: TypeAlias = Reason | Literal["cut_short", "no_letter", "no_destination"]


class Line(NamedTuple):
    """One record of a source of dead letters, not yet decoded."""

    place: str
    content: bytes


class Unsent(NamedTuple):
    """A dead letter that was not sent."""

    place: str
    why: Why
    detail: str
    text: str
    """The dead letter as a line of JSON in ASCII, with its new reason; any other record as it was."""


def read_lines(where: str, settings: Settings) -> Iterator[Line]:
    """All records now at an address, or on standard input (``-``).

    Raises:
        ConnectorError: The address does not exist or cannot be read.
    """
    if where == STDIN:
        for number, line in enumerate(sys.stdin.buffer, 1):
            if line.strip():
                yield Line(f"standard input, line {number}", line.rstrip(b"\r\n"))
    else:
        for record in connector_for(where, settings.options_of).records(where):
            if record.value is not None:
                yield Line(record.place, record.value)


@dataclass
class Resend:
    """Sends the records of dead letters to the topics they came from, or to one address.

    Records that these settings would reject again are not sent. The source is not changed.
    An event without an ``event_id`` is sent with one made of its dead letter's source, so that an event sent
    twice counts once, as long as its id is among the newest ``events.dedup`` ids of its user.
    """

    settings: Settings
    to: str = ""
    """Address to send to; a file must be new. Empty: the topic each dead letter came from."""
    stream: StreamName | None = None
    """Only dead letters of this stream are sent; those from files count as of it. None: both streams."""
    reasons: Collection[str] = ()
    """Only dead letters with these reasons are sent; empty: all."""
    dry_run: bool = False
    read: int = 0
    """Dead letters read, but for those of other reasons or streams."""
    other_stream: int = 0
    """Dead letters skipped because they are not of ``stream``."""
    sent: Counter[str] = field(default_factory=Counter)
    """Records sent, or to be sent in a dry run, by address."""
    unsent: Counter[Why] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.to and self.stream is None:
            is_items = self.to == self.settings.live.items
            self.stream = "items" if is_items else "events"
        self._destinations: dict[str, _Destination] = {}

    def run(self, lines: Iterable[Line]) -> Iterator[Unsent]:
        """Send the records of dead letters in their order; gives those that were not sent.

        Raises:
            ConnectorError: A record could not be sent. It is safe to send all of them again.
        """
        try:
            for line in lines:
                unsent = self._take(line)
                if unsent is not None:
                    self.unsent[unsent.why] += 1
                    yield unsent
            for destination in self._destinations.values():
                destination.flush()
        finally:
            for destination in self._destinations.values():
                destination.close()

    def _take(self, line: Line) -> Unsent | None:
        try:
            letter = dead_letter_from(line.content)
        except DeadLetterError as err:
            self.read += 1
            text = line.content.decode("utf-8", "backslashreplace")
            return Unsent(line.place, "no_letter", str(err), text)
        if self.reasons and letter.reason not in self.reasons:
            return None
        own = self._stream_of(letter)
        if own is not None and self.stream not in (None, own):
            self.other_stream += 1
            return None
        self.read += 1
        if own is None and not self.to:
            detail = (
                f"source: got {letter.partition!r}, wanted a partition of {self.settings.live.events} or "
                f"{self.settings.live.items}; choose where to send it by --to"
            )
            return Unsent(line.place, "no_destination", detail, json.dumps(letter.record))
        found = self._mended(letter, own or self.stream or "events")
        if isinstance(found, Reject):
            why: Why = found.reason if letter.raw_bytes is None else "cut_short"
            record = letter.rejected_again(found)
            return Unsent(line.place, why, found.detail, json.dumps(record))
        address = self.to or getattr(self.settings.live, own or "events")
        self.sent[address] += 1
        if not self.dry_run:
            self._destination(address).add(found)
        return None

    def _stream_of(self, letter: DeadLetter) -> StreamName | None:
        live, options_of = self.settings.live, self.settings.options_of
        if connector_for(live.events, options_of).owns(live.events, letter.partition):
            return "events"
        is_item = connector_for(live.items, options_of).owns(live.items, letter.partition)
        return "items" if is_item else None

    def _mended(self, letter: DeadLetter, stream: StreamName) -> Mended | Reject:
        found = mend(letter, stream, rules=self._plain_rules, now=time.time())
        if isinstance(found, Reject) and found.reason == "bad_vector":
            return mend(letter, stream, rules=self._rules, now=time.time())
        return found

    @cached_property
    def _plain_rules(self) -> DecodeRules:
        """Rules under which items carry no vector: the encoder, which knows its length, is not opened."""
        return decode_rules(self.settings, 0)

    @cached_property
    def _rules(self) -> DecodeRules:
        encoder = open_encoder(encoder_spec(self.settings))
        try:
            return decode_rules(self.settings, encoder.dim)
        finally:
            encoder.close()

    def _destination(self, address: str) -> _Destination:
        if address not in self._destinations:
            connector = connector_for(address, self.settings.options_of)
            self._destinations[address] = _Destination(connector.writer(address))
        return self._destinations[address]


class _Destination:
    """Sends records to one address, in batches."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._pending: list[Message] = []
        self._bytes = 0

    def add(self, mended: Mended) -> None:
        """Send a record with the next batch."""
        self._pending.append(Message(mended.key.encode(), mended.value))
        self._bytes += len(mended.value)
        if len(self._pending) >= _AT_ONCE or self._bytes > _BYTES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send the pending records and wait until they are confirmed."""
        pending, self._pending, self._bytes = self._pending, [], 0
        self._writer.write(pending)

    def close(self) -> None:
        """Close the connection or file."""
        self._writer.close()
