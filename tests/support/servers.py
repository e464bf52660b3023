"""A real HTTP server with ``/v1/embeddings`` whose answers a test chooses."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from recstream.encoders.hashing import HashingEncoder
from tests.support.builders import encoder_spec

__all__ = ["Answer", "EmbeddingsServer", "Question", "embedding_server", "good", "rows", "words"]

Question = dict[str, Any]
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""Status, what is sent as JSON (bytes as they are), and headers."""


class EmbeddingsServer(ThreadingHTTPServer):
    """Answers with ``reply(question, number of the request)``."""

    daemon_threads = True
    block_on_close = False
    reply: Callable[[Question, int], Answer]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.questions: list[Question] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.only_path = ""
        """The one path at which it answers; all others give 404. Empty: it answers at every path."""
        self.is_away = False
        """Connections are accepted and closed without an answer."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def texts(self) -> list[str]:
        """All texts it was asked for."""
        return [text for question in self.questions for text in question["input"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EmbeddingsServer

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append(question)
        self.server.keys.append(self.headers["Authorization"])
        self.server.paths.append(self.path)
        if self.server.is_away:
            self.close_connection = True
            return
        if self.server.only_path not in ("", self.path):
            self.send_error(404)
            return
        status, answer, *more = self.server.reply(question, len(self.server.questions))
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client's time-out has passed

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Stay quiet."""


def rows(question: Question, dim: int = 4) -> list[dict[str, Any]]:
    """Vectors that tell the texts' lengths, last row first, in both forms."""
    made: list[dict[str, Any]] = []
    for i, text in enumerate(question["input"]):
        vector = [1.0, float(len(text))] + [0.0] * (dim - 2)
        packed = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
        made.insert(0, {"index": i, "embedding": vector if i % 2 else packed})
    return made


def good(question: Question, _: int) -> Answer:
    """What a sound server says, in four numbers a text."""
    return 200, {"data": rows(question)}


def words(dim: int = 32) -> Callable[[Question, int], Answer]:
    """A sound server whose vectors mean something: those of the hashing encoder."""
    encoder = HashingEncoder(encoder_spec(backend="hashing", dim=dim))

    def reply(question: Question, _: int) -> Answer:
        vectors = encoder.encode(question["input"])
        return 200, {"data": [{"index": i, "embedding": row.tolist()} for i, row in enumerate(vectors)]}

    return reply


@contextmanager
def embedding_server() -> Iterator[EmbeddingsServer]:
    """A server that answers well until a test changes its reply, and is gone afterwards."""
    made = EmbeddingsServer()
    made.reply = good
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def slowly(reply: Callable[[Question, int], Answer], seconds: float) -> Callable[[Question, int], Answer]:
    """The same, late."""

    def late(question: Question, number: int) -> Answer:
        time.sleep(seconds)
        return reply(question, number)

    return late
