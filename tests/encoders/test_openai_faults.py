"""The embeddings client against a server that misbehaves."""

from __future__ import annotations

import pickle
import threading
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
    assert [question["input"] for question in server.questions] == [["jazz"], [PLAIN_TEXT], [PLAIN_TEXT]]
    assert "encoding_format" not in server.questions[-1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "not an embeddings answer: got JSONDecodeError"),
        ([], "not an embeddings answer"),
        ({"data": []}, "other rows than asked: got 0, wanted 1"),
        ({"data": [{"index": 1, "embedding": [1.0] * 4}]}, "other rows than asked: got index 1, wanted each"),
        ({"data": [{"embedding": [1.0] * 4}]}, "KeyError('index') in"),
        ({"data": [{"index": 0, "embedding": [[1.0] * 4] * 3}]}, "3 vectors for one text"),
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
        ([], "the server's vectors are empty"),
    ],
)
def test_a_server_that_gives_a_plain_text_no_usable_vector_either_is_at_fault_itself(
    server: EmbeddingsServer, numbers: list[float], said: str
) -> None:
    server.reply = lambda question, n: (200, {"data": [{"index": 0, "embedding": numbers}]})
    assert said in failure(spec(server))
    asked = [question["input"] for question in server.questions]
    again = [[PLAIN_TEXT]] if said == "another dimension" else []  # with dimensions
    assert asked == [["jazz"], [PLAIN_TEXT], *again]


def test_another_model_behind_the_url_is_named_with_both_dimensions(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (200, {"data": rows(question, dim=6)})
    message = failure(spec(server))
    assert [question.get("dimensions") for question in server.questions] == [None, None, 4]
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


def knows_no_base64(question: Question, _: int) -> Answer:
    if "encoding_format" in question:
        return 400, {"message": "base64 encoding is not currently supported"}
    return 200, {"data": [{"index": i, "embedding": [1.0, 2.0]} for i in range(len(question["input"]))]}


@pytest.mark.parametrize("dim", [0, 2])
def test_a_server_that_knows_no_base64_is_asked_without_from_then_on(
    server: EmbeddingsServer, dim: int
) -> None:
    server.reply = knows_no_base64
    encoder = open_encoder(spec(server, dim=dim))
    assert encoder.encode([f"text {i}" for i in range(100)]).shape == (100, 2)
    before = len(server.questions)
    encoder.encode(["jazz"])
    assert [len(question["input"]) for question in server.questions[before:]] == [1]
    assert len(server.texts()) < 2 * 101 + 10, "asked twice at most, but for a few plain texts"
    encoder.close()


def test_a_text_is_to_blame_with_a_server_that_knows_no_base64_too(server: EmbeddingsServer) -> None:
    server.reply = lambda question, n: (
        (422, {"error": "too long"}) if "bad" in question["input"] else knows_no_base64(question, n)
    )
    encoder = open_encoder(spec(server, dim=2))
    with pytest.raises(UnencodableError, match=r"1 of 3 texts cannot .* text 1: .* HTTP 422"):
        encoder.encode(["a", "bad", "b"])
    encoder.close()


def shortens(question: Question, _: int) -> Answer:
    return 200, {"data": rows(question, dim=question.get("dimensions", 8))}


def test_a_server_that_can_shorten_vectors_is_asked_for_the_wanted_dimensions(
    server: EmbeddingsServer,
) -> None:
    server.reply = shortens
    encoder = open_encoder(spec(server, dim=4))
    assert encoder.encode(["a", "b"]).shape == (2, 4)
    encoder.encode(["c"])
    assert [question.get("dimensions") for question in server.questions] == [None, None, 4, 4, 4]
    encoder.close()


def test_it_is_asked_so_by_all_requests_that_are_in_flight(server: EmbeddingsServer) -> None:
    all_asked = threading.Barrier(4)

    def together(question: Question, n: int) -> Answer:
        if n <= 8:  # the first four texts, then four plain ones
            all_asked.wait(10)
        return shortens(question, n)

    server.reply = together
    encoder = open_encoder(spec(server, dim=4))
    assert encoder.encode([f"text {i}" for i in range(4 * 32)]).shape == (128, 4)
    encoder.close()


def test_a_server_that_gives_the_wanted_dimensions_is_not_asked_for_them(server: EmbeddingsServer) -> None:
    """For one that cannot shorten vectors would refuse."""
    encoder = open_encoder(spec(server, dim=4))
    encoder.encode(["a"])
    assert "dimensions" not in server.questions[0]
    encoder.close()


def test_a_server_that_refuses_the_wanted_dimensions_is_named_with_what_it_gives(
    server: EmbeddingsServer,
) -> None:
    server.reply = lambda question, n: (
        (400, {"error": "no matryoshka"}) if "dimensions" in question else shortens(question, n)
    )
    message = failure(spec(server, dim=4))
    assert "gives 8 numbers a text, and refuses to give 4 (dimensions): got HTTP 400" in message
    assert "set encoder.dim to what the model gives" in message


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "/v1/embeddings"),
        ("/v1", "/v1/embeddings"),
        ("/v1beta/openai/", "/v1beta/openai/embeddings"),
        ("/api/paas/v4", "/api/paas/v4/embeddings"),
        ("/behind/gateway", "/behind/gateway/v1/embeddings"),
        ("/deployments/m/embeddings?api-version=1", "/deployments/m/embeddings?api-version=1"),
    ],
)
def test_a_server_is_found_at_the_path_that_is_named(server: EmbeddingsServer, url: str, path: str) -> None:
    server.only_path = path
    encoder = open_encoder(spec(server, url=server.url + url))
    for _ in range(2):
        assert encoder.encode(["a"]).shape == (1, 4)
    assert server.paths[-2:] == [path, path]
    assert len(server.paths) <= 3
    encoder.close()


def test_a_server_that_is_at_no_path_is_named_with_all_that_were_asked(server: EmbeddingsServer) -> None:
    server.only_path = "/elsewhere"
    message = failure(spec(server, url=f"{server.url}/api"))
    assert f"at {server.url}/api/v1/embeddings: the server refused the request: got HTTP 404" in message
    assert f"; the same at {server.url}/api/embeddings" in message


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
@pytest.mark.usefixtures("no_proxy")
def test_this_machine_is_reached_without_the_proxy_of_the_environment(
    server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("ALL_PROXY", proxy)
    for host in ("127.0.0.1", "localhost"):
        encoder = open_encoder(spec(server, url=server.url.replace("127.0.0.1", host)))
        assert encoder.encode(["a"]).shape == (1, 4)
        encoder.close()


@pytest.mark.usefixtures("no_proxy")
def test_a_proxy_of_the_environment_is_named_and_how_to_go_without(
    server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://ann:very-secret@127.0.0.1:9")
    message = failure(spec(server, url="http://embeddings.example/v1", retries=1))
    assert "through the proxy http://127.0.0.1:9 of the environment: no answer" in message
    assert "to go without the proxy, set NO_PROXY=embeddings.example" in message
    monkeypatch.setenv("http_proxy", server.url)
    encoder = open_encoder(spec(server, url="http://embeddings.example/v1"))
    assert encoder.encode(["a"]).shape == (1, 4), "it goes through the proxy"
    assert server.paths == ["http://embeddings.example/v1/embeddings"]
    encoder.close()


@pytest.mark.usefixtures("no_proxy")
def test_a_proxy_of_a_kind_that_is_not_known_is_named(
    server: EmbeddingsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "gopher://127.0.0.1:9")
    message = failure(spec(server, url="http://embeddings.example/v1"))
    assert "through the proxy gopher://127.0.0.1:9 of the environment: the proxy cannot be used" in message
