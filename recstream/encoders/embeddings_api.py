"""Requests to a server's ``/v1/embeddings``: attempts, waits, and the meaning of each fault."""

from __future__ import annotations

import base64
import binascii
import time
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, NoReturn

import httpx
import numpy as np
import stamina

from recstream.encoders.base import EncoderError, EncoderSpec
from recstream.records.arrays import Vector

__all__ = ["EmbeddingsApi", "RefusedTextsError"]

PASSING = frozenset({408, 429})
"""Answers below 500 that may be another one soon: time-out, too many requests."""
REFUSING = frozenset({400, 413, 422})
"""Answers to a request that has something in it the server will not have."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
LONGEST_ASKED_S = 60.0
"""A server may ask to be left alone for this long."""


class RefusedTextsError(Exception):
    """The server will not encode these texts: one of them may be at fault, or the server is."""

    def __init__(self, answer: str, *, fell: bool) -> None:
        super().__init__(answer)
        self.fell = fell
        """Whether the server fell over them (500 to the last attempt) instead of saying no."""


class _PassingError(Exception):
    """A fault that may pass: worth another attempt."""

    def __init__(self, what: str, *, status: int = 0, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.status = status
        """Of the answer; 0 when none came."""
        self.wait_s = wait_s
        """How long the server wants to be left alone."""


class EmbeddingsApi:
    """One server, asked by several threads at once.

    Timeouts, lost connections, 5xx, 408 and 429 are tried again, after growing waits or as long as the
    server asks for, to a limit; anything else is an error at once.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        base = spec.url.rstrip("/").removesuffix("/v1")
        self.url = f"{base}/v1/embeddings"
        self._client: httpx.Client | None = None
        self._lock = Lock()

    def ask(self, texts: list[str], *, attempts: int) -> list[Vector]:
        """One vector a text, as the server gives them: of any length, perhaps not finite.

        Raises:
            EncoderError: no answer after all attempts, a refusal that no text explains, or nonsense.
            RefusedTextsError: a refusal that a text may explain.
        """
        try:
            for attempt in stamina.retry_context(
                on=_again,
                attempts=attempts,
                timeout=None,
                wait_initial=FIRST_WAIT_S,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=FIRST_WAIT_S,
            ):
                with attempt:
                    return self._attempt(texts)
        except _PassingError as passing:
            if passing.status == httpx.codes.INTERNAL_SERVER_ERROR:
                raise RefusedTextsError(f"{passing}, attempts: {attempts}", fell=True) from passing
            self.fail(
                f"no answer after {attempts} attempts",
                passing,
                f"an answer within {self._spec.timeout_s:g} s",
                "check that the server runs, and its log; raise timeout_s or retries",
            )
        raise AssertionError("stamina ends by returning or raising")

    def close(self) -> None:
        """Close the connections; the next request would open new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def fail(self, what: str, got: object, wanted: object, mend: str) -> NoReturn:
        """Raise an error that names the server.

        Raises:
            EncoderError: always.
        """
        where = f"encoder model {self._spec.model} at {self.url}"
        raise EncoderError(f"{where}: {what}", got=got, wanted=wanted, mend=mend)

    def _attempt(self, texts: list[str]) -> list[Vector]:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            client = self._client
        question = {"model": self._spec.model, "input": texts, "encoding_format": "base64"}
        try:
            answer = client.post(self.url, json=question)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as exc:
            raise _PassingError(f"{type(exc).__name__}: {exc}") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            self.fail("cannot ask the server", f"{type(exc).__name__}: {exc}", "", "check url")
        status = answer.status_code
        said = f"HTTP {status}: {self._excerpt(answer)}"
        if status in PASSING or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            wait_s = _wanted_wait(answer.headers.get("Retry-After"))
            raise _PassingError(said, status=status, wait_s=wait_s)
        if status in REFUSING:
            raise RefusedTextsError(said, fell=False)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            held = "the api_key was refused" if self._spec.api_key else "no api_key was sent"
            self.fail(held, said, "", "set api_key to a valid key")
        if status != httpx.codes.OK:
            self.fail("the server refused the request", said, "", "check url and model")
        return self._vectors(answer, len(texts))

    def _connect(self) -> httpx.Client:
        key = self._spec.api_key
        return httpx.Client(
            timeout=self._spec.timeout_s, headers={"Authorization": f"Bearer {key}"} if key else {}
        )

    def _vectors(self, answer: httpx.Response, n: int) -> list[Vector]:
        """The answer's vectors, by their ``index``."""
        try:
            entries: list[dict[str, Any]] = answer.json()["data"]
            vectors = {int(entry["index"]): _vector(entry["embedding"]) for entry in entries}
        except (ValueError, KeyError, TypeError, binascii.Error) as exc:
            got = f"{exc!r} in {self._excerpt(answer)!r}"
            self.fail("the answer is not an embeddings answer", got, "data[].embedding", "check url")
        if len(entries) != n or sorted(vectors) != list(range(n)):
            self.fail("the answer has other rows than asked", len(entries), n, "check the server's limits")
        return [vectors[i] for i in range(n)]

    def _excerpt(self, answer: httpx.Response) -> str:
        text = " ".join(answer.text.split())
        return (text.replace(self._spec.api_key, "(hidden)") if self._spec.api_key else text)[:200]


def _again(error: Exception) -> bool | float:
    """Whether an attempt is to be repeated, or after how many seconds."""
    if not isinstance(error, _PassingError):
        return False
    return True if error.wait_s is None else error.wait_s


def _wanted_wait(retry_after: str | None) -> float | None:
    """Seconds that a server asks to be left alone for, or None; never more than a minute.

    >>> [_wanted_wait(said) for said in ("7", "3600", "Wed, 21 Oct 2015 07:28:00 GMT", "soon")]
    [7.0, 60.0, 0.0, None]
    """
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        seconds = float(retry_after)
    else:
        try:
            when = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = when.timestamp() - time.time()
    return min(max(seconds, 0.0), LONGEST_ASKED_S)


def _vector(embedding: str | list[float]) -> Vector:
    """A vector from either of the two forms servers send, whichever was asked for.

    >>> _vector("AACAPwAAAEA=").tolist(), _vector([1.0, 2.0]).tolist()
    ([1.0, 2.0], [1.0, 2.0])
    """
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is judged with the others that have no direction
        return np.asarray(embedding, np.float32).reshape(-1)
