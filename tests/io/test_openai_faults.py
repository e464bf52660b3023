"""The embeddings client against a server that misbehaves."""

from __future__ import annotations

import base64
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from recstream.io.encoders import EncoderError, EncoderSpec, open_encoder

KEY = "sk-very-secret"
Answer = tuple[int, Any]


class Server(ThreadingHTTPServer):
    """Answers with ``reply(question, number of the request)``."""

    daemon_threads = True
    reply: Callable[[dict[str, Any], int], Answer]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.questions: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append(question)
        self.server.keys.append(self.headers["Authorization"])
        status, answer = self.server.reply(question, len(self.server.questions))
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client's time-out has passed

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Stay quiet."""


def rows(question: dict[str, Any], dim: int = 4) -> list[dict[str, Any]]:
    """Vectors that tell the texts' lengths, last row first, in both forms."""
    made: list[dict[str, Any]] = []
    for i, text in enumerate(question["input"]):
        vector = [1.0, float(len(text))] + [0.0] * (dim - 2)
        packed = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
        made.insert(0, {"index": i, "embedding": vector if i % 2 else packed})
    return made


def good(question: dict[str, Any], _: int) -> Answer:
    return 200, {"data": rows(question)}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.reply = good
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def spec(
    server: Server, *, dim: int = 4, retries: int = 2, timeout_s: float = 5.0, url: str = ""
) -> EncoderSpec:
    return EncoderSpec(
        backend="openai",
        model="m",
        url=url or server.url,
        api_key=KEY,
        dim=dim,
        retries=retries,
        timeout_s=timeout_s,
    )


def failure(of: EncoderSpec) -> str:
    """The message with which encoding fails; pickles, and never shows the key."""
    encoder = open_encoder(of)
    with pytest.raises(EncoderError) as caught:
        encoder.encode(["jazz"])
    encoder.close()
    message = str(pickle.loads(pickle.dumps(caught.value)))  # noqa: S301 -- our own bytes
    assert message == str(caught.value)
    assert KEY not in message
    return message


def test_rows_are_ordered_by_index_and_brought_to_unit_length(server: Server) -> None:
    encoder = open_encoder(spec(server, dim=0))
    assert encoder.dim == 4, "learned from a probe"
    texts = ["x" * (i % 7 + 1) for i in range(100)]
    got = encoder.encode(texts)
    wanted = np.array([[1.0, len(text), 0, 0] for text in texts])
    np.testing.assert_allclose(got, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert max(len(question["input"]) for question in server.questions) <= 32
    assert set(server.keys) == {f"Bearer {KEY}"}
    encoder.close()


def test_the_identity_does_not_name_the_server(server: Server) -> None:
    here, there = open_encoder(spec(server)), open_encoder(spec(server, url="http://elsewhere/v1"))
    assert here.identity == there.identity
    assert server.questions == [], "a declared dimension needs no probe"


def test_a_trailing_v1_is_fine(server: Server) -> None:
    encoder = open_encoder(spec(server, url=f"{server.url}/v1/"))
    assert encoder.encode(["a"]).shape == (1, 4)
    encoder.close()


def test_a_500_and_a_429_are_tried_again(server: Server) -> None:
    server.reply = lambda question, n: good(question, n) if n == 3 else ({1: 500, 2: 429}[n], {})
    encoder = open_encoder(spec(server))
    assert encoder.encode(["a"]).shape == (1, 4)
    assert len(server.questions) == 3
    encoder.close()


def test_attempts_have_an_end(server: Server) -> None:
    server.reply = lambda question, n: (503, {"error": "starting"})
    message = failure(spec(server, retries=1))
    assert "no answer after 2 attempts: got HTTP 503" in message
    assert len(server.questions) == 2


def test_a_slow_answer_is_tried_again(server: Server) -> None:
    def slow_once(question: dict[str, Any], n: int) -> Answer:
        time.sleep(0.6 if n == 1 else 0.0)
        return good(question, n)

    server.reply = slow_once
    encoder = open_encoder(spec(server, timeout_s=0.2))
    assert encoder.encode(["a"]).shape == (1, 4)
    encoder.close()


def test_no_server_is_an_error_after_all_attempts(server: Server) -> None:
    assert "ConnectError" in failure(spec(server, url="http://127.0.0.1:9", retries=1))


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "lower max_tokens"), (401, "the api_key was refused"), (404, "check url and model")],
)
def test_a_4xx_is_an_error_at_once(server: Server, status: int, said: str) -> None:
    server.reply = lambda question, n: (status, {"error": f"no, not with {KEY}"})
    message = failure(spec(server))
    assert said in message
    assert f"HTTP {status}" in message
    assert len(server.questions) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "not an embeddings answer"),
        ({"data": []}, "other rows than asked: got 0, wanted 1"),
        ({"data": [{"index": 1, "embedding": [1.0] * 4}]}, "other rows than asked"),
        ({"data": [{"index": 0, "embedding": [1.0] * 3}]}, "another dimension: got 3, wanted 4"),
        ({"data": [{"index": 0, "embedding": "AAA"}]}, "not an embeddings answer"),
        (b'{"data": [{"index": 0, "embedding": [NaN, 1, 1, 1]}]}', "without direction"),
        ({"data": [{"index": 0, "embedding": [0.0] * 4}]}, "without direction"),
    ],
)
def test_nonsense_is_an_error_that_says_which(server: Server, answer: object, said: str) -> None:
    server.reply = lambda question, n: (200, answer)
    assert said in failure(spec(server))
    assert len(server.questions) == 1


def test_one_failing_request_among_many_is_an_error(server: Server) -> None:
    server.reply = lambda question, n: (400, {}) if "bad" in question["input"] else good(question, n)
    encoder = open_encoder(spec(server))
    with pytest.raises(EncoderError, match="HTTP 400"):
        encoder.encode([*"abcdefgh" * 20, "bad"])
    encoder.close()
