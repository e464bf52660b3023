"""A proxy in front of a real broker: answers come late, not at all, or without a topic's newest partitions.

Tansu has no CreatePartitions. So a topic is made with all its partitions; those that are "added" later are
left out of the broker's answers about the topic until then. All clients come through the proxy.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

__all__ = ["KafkaProxy"]

_PRODUCE = 0
"""Key of the request that writes."""
_METADATA = (3, 12)
"""Key of the request, and the version that librdkafka and Tansu agree on."""


class KafkaProxy:
    """Listens on ``port``, speaks to the broker at ``target``."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.target = 0
        self.delay_s = 0.0
        """How late every answer is."""
        self.confirms = True
        """Whether answers to what was written pass; they are lost otherwise."""
        self.shown: dict[str, int] = {}
        """How many partitions a topic is said to have, in place of all."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more; connections end with the broker."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else it accepts once more
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            asked: dict[int, tuple[int, int]] = {}
            threading.Thread(target=self._requests, args=(near, far, asked), daemon=True).start()
            threading.Thread(target=self._answers, args=(far, near, asked), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket, asked: dict[int, tuple[int, int]]) -> None:
        with contextlib.suppress(OSError):
            while frame := _frame(near):
                key, version, number = struct.unpack_from(">hhi", frame)
                asked[number] = (key, version)
                _send(far, frame)
        _hang_up(near, far)

    def _answers(self, far: socket.socket, near: socket.socket, asked: dict[int, tuple[int, int]]) -> None:
        with contextlib.suppress(OSError):
            while frame := _frame(far):
                (number,) = struct.unpack_from(">i", frame)
                key, version = asked.pop(number)
                if key == _METADATA[0] and self.shown:
                    assert version == _METADATA[1], f"metadata of version {version} is not understood here"
                    frame = _Metadata(frame).without_partitions(self.shown)
                time.sleep(self.delay_s)
                if key != _PRODUCE or self.confirms:
                    _send(near, frame)
        _hang_up(far, near)


class _Metadata:
    """Walks over an answer, and copies it."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = 0
        self._copied = bytearray()

    def without_partitions(self, shown: dict[str, int]) -> bytes:
        """The same answer, in which these topics have so many partitions at most."""
        self._take(4)
        self._tags()
        self._take(4)
        for _ in range(self._length()):  # brokers
            self._take(4)
            self._text()
            self._take(4)
            self._text()
            self._tags()
        self._text()
        self._take(4)
        for _ in range(self._length()):
            self._take(2)
            most = shown.get(self._text(), 1 << 30)
            self._take(17)
            self._partitions(most)
            self._take(4)
            self._tags()
        self._tags()
        assert self._at == len(self._frame)
        return bytes(self._copied)

    def _partitions(self, most: int) -> None:
        count, parts = 0, bytearray()
        start = len(self._copied)
        length = self._length()
        del self._copied[start:]  # another number goes there
        for _ in range(length):
            before = len(self._copied)
            self._take(2)
            (number,) = struct.unpack(">i", self._take(4))
            self._take(8)
            for _ in range(3):
                self._take(4 * self._length())
            self._tags()
            part = self._copied[before:]
            del self._copied[before:]
            if number < most:
                count += 1
                parts += part
        self._copied += _varint(count + 1) + parts

    def _take(self, size: int) -> bytes:
        piece = self._frame[self._at : self._at + size]
        assert len(piece) == size
        self._copied += piece
        self._at += size
        return piece

    def _number(self) -> int:
        number = shift = 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def _length(self) -> int:
        return max(self._number() - 1, 0)

    def _text(self) -> str:
        return self._take(self._length()).decode()

    def _tags(self) -> None:
        for _ in range(self._number()):
            self._number()
            self._take(self._number())


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _frame(end: socket.socket) -> bytes:
    """The next request or answer; empty at the end."""
    head = _exactly(end, 4)
    return _exactly(end, struct.unpack(">i", head)[0]) if head else b""


def _exactly(end: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = end.recv(size - len(got))
        if not piece:
            return b""
        got += piece
    return bytes(got)


def _send(end: socket.socket, frame: bytes) -> None:
    end.sendall(struct.pack(">i", len(frame)) + frame)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
