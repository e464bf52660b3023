"""Dead letters read, and sent again once they are mended."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from typing_extensions import override

from recstream.config import Settings
from recstream.connectors.files.formats import FileFault
from recstream.connectors.files.records import open_records
from recstream.connectors.files.sink import JsonLinesSink
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import KafkaSink
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

__all__ = ["KAFKA", "STDIN", "Left", "Line", "Resend", "Why", "read_lines"]

KAFKA: Final = "kafka:"
STDIN: Final = "-"
_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 8_000_000

Why: TypeAlias = Reason | Literal["cut_short", "no_letter", "no_destination"]


class Line(NamedTuple):
    """One record of a place that holds dead letters."""

    place: str
    content: bytes


class Left(NamedTuple):
    """A letter that was not sent."""

    place: str
    why: Why
    detail: str
    text: str
    """The letter as a line of JSON in ASCII, with its new reason; if it is none, the line as it was."""


def read_lines(where: str, settings: Settings) -> Iterator[Line]:
    """All letters of a file, of ``kafka:TOPIC`` as of now, or of standard input (``-``).

    Raises:
        FileFault, KafkaFault: there is no such thing, or it cannot be read.
    """
    if where == STDIN:
        for number, line in enumerate(sys.stdin.buffer, 1):
            if line.strip():
                yield Line(f"standard input, line {number}", line.rstrip(b"\r\n"))
    elif where.startswith(KAFKA):
        kafka, topic = settings.kafka, where[len(KAFKA) :]
        for record in read_topic(kafka.bootstrap, topic, start="earliest", follow=False, client=kafka.client):
            if record.value is not None:
                yield Line(f"{topic}/{record.partition}:{record.offset}", record.value)
    else:
        reader = open_records(Path(where))
        try:
            while True:
                first = reader.offset
                records = reader.read(_AT_ONCE)
                if not records:
                    return
                for number, line in enumerate(records, first + 1):
                    yield Line(f"{where}, letter {number}", line)
        finally:
            reader.close()


@dataclass
class Resend:
    """Sends the records of letters back to where they came from, or to one other place.

    What would be rejected again by decoding under these settings is not sent but left over. Nothing is
    taken away from where the letters are. An event without an ``event_id`` is sent with one that names
    the letter's source, so that a letter that is sent twice counts once, within the newest ``events.dedup``
    ids of its user: one that is sent again after so many newer ones is not recognised.
    """

    settings: Settings
    to: str = ""
    """``kafka:TOPIC`` or a new .jsonl file; empty: the topic each letter came from."""
    stream: StreamName | None = None
    """Only letters of this stream; those that do not say theirs (from files) are taken for it."""
    reasons: Collection[str] = ()
    """Only letters with these reasons; none: all."""
    dry_run: bool = False
    letters: int = 0
    """Letters looked at."""
    other_stream: int = 0
    """Letters left out because they are not of ``stream``."""
    sent: Counter[str] = field(default_factory=Counter)
    """Records sent (or that would be, in a dry run), by place."""
    left: Counter[Why] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.to and self.stream is None:
            is_items = self.to == KAFKA + self.settings.kafka.items_topic
            self.stream = "items" if is_items else "events"
        self._places: dict[str, _Place] = {}

    def run(self, lines: Iterable[Line]) -> Iterator[Left]:
        """Work the letters off in their order; gives those that were not sent.

        Raises:
            DeliveryError, KafkaFault, FileFault: what was given out until then is sent or left over, and
                sending all again does no harm.
        """
        try:
            for line in lines:
                left = self._take(line)
                if left is not None:
                    self.left[left.why] += 1
                    yield left
            for place in self._places.values():
                place.flush()
        finally:
            for place in self._places.values():
                place.close()

    def _take(self, line: Line) -> Left | None:
        try:
            letter = dead_letter_from(line.content)
        except DeadLetterError as err:
            self.letters += 1
            text = line.content.decode("utf-8", "backslashreplace")
            return Left(line.place, "no_letter", str(err), text)
        if self.reasons and letter.reason not in self.reasons:
            return None
        own = self._stream_of(letter)
        if own is not None and self.stream not in (None, own):
            self.other_stream += 1
            return None
        self.letters += 1
        if own is None and not self.to:
            kafka = self.settings.kafka
            detail = (
                f"source: got {letter.partition!r}, wanted a partition of topic {kafka.events_topic!r} or "
                f"{kafka.items_topic!r}; choose where to send it by --to"
            )
            return self._left(line, "no_destination", letter, detail)
        found = self._mended(letter, own or self.stream or "events")
        if isinstance(found, Reject):
            why: Why = found.reason if letter.raw_bytes is None else "cut_short"
            record = letter.rejected_again(found)
            return Left(line.place, why, found.detail, json.dumps(record))
        name = self.to or KAFKA + letter.topic
        self.sent[name] += 1
        if not self.dry_run:
            self._place(name).add(found)
        return None

    def _left(self, line: Line, why: Why, letter: DeadLetter, detail: str) -> Left:
        return Left(line.place, why, detail, json.dumps(letter.record))

    def _stream_of(self, letter: DeadLetter) -> StreamName | None:
        kafka = self.settings.kafka
        if letter.topic == letter.partition:
            return None
        if letter.topic == kafka.events_topic:
            return "events"
        return "items" if letter.topic == kafka.items_topic else None

    def _mended(self, letter: DeadLetter, stream: StreamName) -> Mended | Reject:
        found = mend(letter, stream, rules=self._plain_rules, now=time.time())
        if isinstance(found, Reject) and found.reason == "bad_vector":
            return mend(letter, stream, rules=self._rules, now=time.time())
        return found

    @cached_property
    def _plain_rules(self) -> DecodeRules:
        """Rules under which no item brings a vector: the encoder, which knows their length, is not opened."""
        return decode_rules(self.settings, 0)

    @cached_property
    def _rules(self) -> DecodeRules:
        encoder = open_encoder(encoder_spec(self.settings))
        try:
            return decode_rules(self.settings, encoder.dim)
        finally:
            encoder.close()

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            self._places[name] = (
                _Topic(self.settings, name[len(KAFKA) :]) if name.startswith(KAFKA) else _File(Path(name))
            )
        return self._places[name]


class _Place(ABC):
    """Somewhere to send to, in batches."""

    def __init__(self) -> None:
        self._pending: list[Message] = []
        self._bytes = 0

    def add(self, mended: Mended) -> None:
        """Send it, soon."""
        self._pending.append(Message(mended.key.encode(), mended.value))
        self._bytes += len(mended.value)
        if len(self._pending) >= _AT_ONCE or self._bytes > _BYTES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what is pending; all of it is safe afterwards."""
        pending, self._pending, self._bytes = self._pending, [], 0
        self._send(pending)

    @abstractmethod
    def _send(self, messages: list[Message]) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Leave."""


class _Topic(_Place):
    def __init__(self, settings: Settings, topic: str) -> None:
        super().__init__()
        kafka = settings.kafka
        sink = KafkaSink(kafka.bootstrap, topic, client=kafka.client, timeout_s=kafka.delivery_timeout_s)
        self._writer = sink.build("deadletter replay", 0, 1)

    @override
    def _send(self, messages: list[Message]) -> None:
        self._writer.write_batch(messages)

    @override
    def close(self) -> None:
        self._writer.close()


class _File(_Place):
    def __init__(self, path: Path) -> None:
        super().__init__()
        if path.exists():
            raise FileFault(
                "would write over a file", str(path), "one that is there", "a new name", "choose another"
            )
        sink = JsonLinesSink(path)
        self._part = sink.build_part("deadletter replay", path.name, None)

    @override
    def _send(self, messages: list[Message]) -> None:
        # JSON breaks lines between its tokens only, where a blank is as good
        self._part.write_batch(
            [
                one._replace(value=(one.value or b"").replace(b"\n", b" ").replace(b"\r", b" "))
                for one in messages
            ]
        )
        self._part.snapshot()

    @override
    def close(self) -> None:
        self._part.close()
