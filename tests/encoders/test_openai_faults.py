"""The embeddings client against a server that misbehaves."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator

import numpy as np
import pytest

from recstream.encoders import open_encoder
from recstream.encoders.base import PLAIN_TEXT, EncoderError, EncoderSpec, UnencodableError
from tests.support.builders import encoder_spec
from tests.support.servers import Answer, EmbeddingsServer, Question, embedding_server, good, rows

KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[EmbeddingsServer]:
    with embedding_server() as made:
        yield made


def spec(
    server: EmbeddingsServer, *, dim: int = 4, retries: int = 2, timeout_s: float = 5.0, url: str = ""
) -> EncoderSpec:
    return encoder_spec(
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


def test_rows_are_ordered_by_index_and_brought_to_unit_length(server: EmbeddingsServer) -> None:
    encoder = open_encoder(spec(server, dim=0))
    assert encoder.dim == 4, "learned from a probe"
    texts = ["x" * (i % 7 + 1) for i in range(100)]
    got = encoder.encode(texts)
    wanted = np.array([[1.0, len(text), 0, 0] for text in texts])
    np.testing.assert_allclose(got, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert max(len(question["input"]) for question in server.questions) <= 32
    assert set(server.keys) == {f"Bearer {KEY}"}
    encoder.close()


def test_the_identity_does_not_name_the_server(server: EmbeddingsServer) -> None:
    here, there = open_encoder(spec(server)), open_encoder(spec(server, url="http://elsewhere/v1"))
    assert here.identity == there.identity
    assert server.questions == [], "a declared dimension needs no probe"


def test_a_trailing_v1_is_fine(server: EmbeddingsServer) -> None:
    encoder = open_encoder(spec(server, url=f"{server.url}/v1/"))
    assert encoder.encode(["a"]).shape == (1, 4)
    encoder.close()


def test_a_500_and_a_429_are_tried_again(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: good(question, n) if n == 3 else ({1: 500, 2: 429}[n], {})
    encoder = open_encoder(spec(server))
    assert encoder.encode(["a"]).shape == (1, 4)
    assert len(server.questions) == 3
    encoder.close()


def test_attempts_have_an_end(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (503, {"error": "starting"})
    message = failure(spec(server, retries=1))
    assert "no answer after 2 attempts: got HTTP 503" in message
    assert len(server.questions) == 2


def test_a_slow_answer_is_tried_again(server: EmbeddingsServer) -> None:
    def slow_once(question: Question, n: int) -> Answer:
        time.sleep(0.6 if n == 1 else 0.0)
        return good(question, n)

    server.reply = slow_once
    encoder = open_encoder(spec(server, timeout_s=0.2))
    assert encoder.encode(["a"]).shape == (1, 4)
    encoder.close()


def test_no_server_is_an_error_after_all_attempts(server: EmbeddingsServer) -> None:
    assert "ConnectError" in failure(spec(server, url="http://127.0.0.1:9", retries=1))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the api_key was refused"),
        (403, "set api_key"),
        (404, "check url and model"),
        (302, "check url"),
    ],
)
def test_what_only_settings_mend_is_an_error_at_once(
    server: EmbeddingsServer, status: int, said: str
) -> None:
    server.reply = lambda question, n: (status, {"error": f"no, not with {KEY}"})
    message = failure(spec(server))
    assert said in message
    assert f"HTTP {status}" in message
    assert len(server.questions) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_refuses_a_plain_text_too_is_at_fault_itself(
    server: EmbeddingsServer, status: int
) -> None:
    server.reply = lambda question, n: (status, {"error": f"no, not with {KEY}"})
    message = failure(spec(server))
    assert f"refuses a plain text too: got HTTP {status}" in message
    assert "to mend it: check url, model and prefix, lower max_tokens" in message
    assert [question["input"] for question in server.questions] == [["jazz"], [PLAIN_TEXT]]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "not an embeddings answer: got JSONDecodeError"),
        ([], "not an embeddings answer"),
        ({"data": []}, "other rows than asked: got 0, wanted 1"),
        ({"data": [{"index": 1, "embedding": [1.0] * 4}]}, "other rows than asked"),
        ({"data": [{"index": 0, "embedding": "AAA"}]}, "not an embeddings answer"),
    ],
)
def test_nonsense_is_an_error_that_says_which(server: EmbeddingsServer, answer: object, said: str) -> None:
    server.reply = lambda question, n: (200, answer)
    assert said in failure(spec(server))
    assert len(server.questions) == 1


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1.0] * 3, "another dimension"),
        ([float("nan"), 1.0, 1.0, 1.0], "no direction"),
        ([None, 1.0, 1.0, 1.0], "no direction"),
        ([1e300, 1.0, 1.0, 1.0], "no direction"),
        ([0.0] * 4, "no direction"),
    ],
)
def test_a_server_that_gives_a_plain_text_no_usable_vector_either_is_at_fault_itself(
    server: EmbeddingsServer, numbers: list[float], said: str
) -> None:
    server.reply = lambda question, n: (200, {"data": [{"index": 0, "embedding": numbers}]})
    assert said in failure(spec(server))
    assert [question["input"] for question in server.questions] == [["jazz"], [PLAIN_TEXT]]


def test_another_model_behind_the_url_is_named_with_both_dimensions(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (200, {"data": rows(question, dim=6)})
    message = failure(spec(server))
    assert (
        "another dimension: it has another model than before, or encoder.dim is wrong: got 6, wanted 4"
        in message
    )
    assert "let url and model name the model that the store was made with" in message


def test_one_refused_text_costs_few_requests(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (
        (422, {"error": "too long"}) if "bad" in question["input"] else good(question, n)
    )
    encoder = open_encoder(spec(server))
    texts = [f"text {i}" for i in range(31)]
    with pytest.raises(UnencodableError, match=r"1 of 32 texts cannot .* text 20: .* HTTP 422: .*too long"):
        encoder.encode([*texts[:20], "bad", *texts[20:]])
    # 32, 16, 8, 4, 2 and 1 are refused and each followed by a plain text; five other parts are fine
    assert len(server.questions) == 6 + 6 + 5
    encoder.close()


def test_a_text_over_which_the_server_falls_each_time_is_found(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (500, {}) if "bad" in question["input"] else good(question, n)
    encoder = open_encoder(spec(server, retries=1))
    with pytest.raises(UnencodableError, match=r"text 2: the server refused it: HTTP 500: \{\}, attempts: 2"):
        encoder.encode(["a", "b", "bad", "c"])
    assert server.texts().count("bad") == 2 + 1 + 2, "tried as often as allowed at first, and alone"
    encoder.close()


def test_a_server_that_only_gives_500_is_at_fault_itself(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (500, {"error": "out of memory"})
    message = failure(spec(server, retries=2))
    assert "refuses a plain text too: got HTTP 500" in message
    assert "check the server, its log says why" in message
    assert len(server.questions) == 3 + 1


def test_a_server_that_comes_back_while_a_text_is_under_suspicion_blames_none(
    server: EmbeddingsServer,
) -> None:
    server.reply = lambda question, n: (500, {}) if n <= 2 else good(question, n)
    encoder = open_encoder(spec(server, retries=1))
    assert encoder.encode(["a", "b"]).any(axis=1).all()
    encoder.close()


def test_a_request_that_is_too_large_as_a_whole_is_sent_in_parts(
    server: EmbeddingsServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.reply = lambda question, n: (413, {}) if len(question["input"]) > 8 else good(question, n)
    encoder = open_encoder(spec(server))
    assert encoder.encode([f"text {i}" for i in range(32)]).any(axis=1).all()
    assert "refused 16 texts at once, but not in halves" in caplog.text
    assert "raise the server's limits" in caplog.text
    encoder.close()


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_a_server_asks_for_is_kept(server: EmbeddingsServer, status: int) -> None:
    server.reply = lambda question, n: (status, {}, {"Retry-After": "1"}) if n == 1 else good(question, n)
    encoder = open_encoder(spec(server))
    begin = time.monotonic()
    encoder.encode(["a"])
    assert time.monotonic() - begin >= 1.0
    encoder.close()


def test_lost_connections_are_an_error_after_all_attempts_and_no_longer(server: EmbeddingsServer) -> None:
    server.is_away = True
    encoder = open_encoder(spec(server, retries=1))
    with pytest.raises(EncoderError, match="no answer after 2 attempts: got RemoteProtocolError"):
        encoder.encode(["a"])
    server.is_away = False
    assert encoder.encode(["a"]).shape == (1, 4)
    encoder.close()


def test_the_fault_of_one_request_among_many_is_that_of_all(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (404, {}) if "bad" in question["input"] else good(question, n)
    encoder = open_encoder(spec(server))
    with pytest.raises(EncoderError, match="HTTP 404"):
        encoder.encode([*"abcdefgh" * 20, "bad"])
    encoder.close()
