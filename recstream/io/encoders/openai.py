"""Encoder on any server with ``/v1/embeddings``: vLLM, TEI, Ollama, OpenAI."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, NoReturn

import httpx
import numpy as np
import stamina

from recstream.core.arrays import Matrix, Vector
from recstream.io.encoders.spec import EncoderError, EncoderSpec
from recstream.io.encoders.transformers import batches, well_formed

__all__ = ["OpenAIEncoder"]

BATCH_TEXTS = 32
"""Texts a request: what TEI accepts by default."""
CHARS_A_TOKEN = 4
"""Texts are cut at this many characters a token, since only the server has the tokenizer."""
IN_FLIGHT = 4
TOO_MANY = 429
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0


class _Passing(Exception):
    """A fault that may pass: worth another attempt."""


class OpenAIEncoder:
    """An :class:`~recstream.ports.Encoder` that asks a server, several requests at once.

    Timeouts, lost connections, 5xx and 429 are tried again with growing waits, ``retries`` times; anything
    else is an error at once. Vectors are brought to unit length here. Whether a row depends on its
    neighbours is the server's affair: in fp32 it should not beyond 1e-5; half precision may show more.

    The dimension is ``spec.dim``, or, when that is 0, learned from one request at the first need of it.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        base = spec.url.rstrip("/").removesuffix("/v1")
        self._url = f"{base}/v1/embeddings"
        self._dim = spec.dim
        self._lock = Lock()
        self._client: httpx.Client | None = None
        self._client_lock = Lock()

    @property
    def identity(self) -> str:
        """Model id, declared revision, prefix, cut and dimension; *not* the server's address."""
        spec = self._spec
        return (
            f"openai;model={spec.model};revision={spec.sha256};prefix={spec.prefix!r};"
            f"max_chars={spec.max_tokens * CHARS_A_TOKEN};dim={self.dim}"
        )

    @property
    def label(self) -> str:
        """The model's id, and the first characters of its declared revision."""
        revision = self._spec.sha256
        return self._spec.model if revision is None else f"{self._spec.model}@{revision[:8]}"

    @property
    def dim(self) -> int:
        """As declared, else as the server answered a probe.

        Raises:
            EncoderError: the probe failed.
        """
        with self._lock:
            if self._dim <= 0:
                self._dim = int(self._ask(["dimension"]).shape[1])
            return self._dim

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Encode in requests of at most 32 texts; rows come back in the order of the texts.

        Raises:
            EncoderError: the server refused, stayed away after all attempts, or answered nonsense.
        """
        out = np.empty((len(texts), self.dim), np.float32)
        cut = self._spec.max_tokens * CHARS_A_TOKEN
        sent = [well_formed(self._spec.prefix + text)[:cut] or " " for text in texts]
        groups = [
            group[start : start + BATCH_TEXTS]
            for group in batches([len(text) for text in sent], self._spec.batch_tokens * CHARS_A_TOKEN)
            for start in range(0, len(group), BATCH_TEXTS)
        ]

        def fill(group: list[int]) -> None:
            rows = self._ask([sent[row] for row in group])
            if rows.shape[1] != self._dim:
                self._fail("the server's vectors have another dimension", rows.shape[1], self._dim, "set dim")
            out[group] = rows

        if len(groups) <= 1:
            for group in groups:
                fill(group)
            return out
        with ThreadPoolExecutor(self._spec.threads or IN_FLIGHT, "encoder") as pool:
            for _ in pool.map(fill, groups):  # raises the first failure
                pass
        return out

    def close(self) -> None:
        """Close the connections; the next ``encode`` would open new ones."""
        with self._client_lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, texts: list[str]) -> Matrix:
        """Unit rows of one request, after as many attempts as allowed."""
        try:
            for attempt in stamina.retry_context(
                on=_Passing,
                attempts=self._spec.retries + 1,
                timeout=None,
                wait_initial=FIRST_WAIT_S,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=FIRST_WAIT_S,
            ):
                with attempt:
                    return self._attempt(texts)
        except _Passing as exc:
            self._fail(
                f"no answer after {self._spec.retries + 1} attempts",
                exc,
                f"an answer within {self._spec.timeout_s} s",
                "check that the server runs; raise timeout_s or retries",
            )
        raise AssertionError("stamina ends by returning or raising")

    def _attempt(self, texts: list[str]) -> Matrix:
        with self._client_lock:
            if self._client is None:
                self._client = self._connect()
            client = self._client
        question = {"model": self._spec.model, "input": texts, "encoding_format": "base64"}
        try:
            answer = client.post(self._url, json=question)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as exc:
            raise _Passing(f"{type(exc).__name__}: {exc}") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            self._fail("cannot ask the server", f"{type(exc).__name__}: {exc}", "", "check url")
        status = answer.status_code
        if status == TOO_MANY or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _Passing(f"HTTP {status}: {self._excerpt(answer)}")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            held = "the api_key was refused" if self._spec.api_key else "no api_key was sent"
            self._fail(held, f"HTTP {status}: {self._excerpt(answer)}", "", "set api_key to a valid key")
        if status != httpx.codes.OK:
            mend = (
                "check url and model" if status == httpx.codes.NOT_FOUND else "check model, lower max_tokens"
            )
            self._fail("the server refused the request", f"HTTP {status}: {self._excerpt(answer)}", "", mend)
        return self._rows(answer, len(texts))

    def _connect(self) -> httpx.Client:
        key = self._spec.api_key
        return httpx.Client(
            timeout=self._spec.timeout_s, headers={"Authorization": f"Bearer {key}"} if key else {}
        )

    def _rows(self, answer: httpx.Response, n: int) -> Matrix:
        """The answer's vectors, by their ``index``, checked and brought to unit length."""
        try:
            entries: list[dict[str, Any]] = answer.json()["data"]
            vectors = {int(entry["index"]): _vector(entry["embedding"]) for entry in entries}
        except (ValueError, KeyError, TypeError, binascii.Error) as exc:
            self._fail("the answer is not an embeddings answer", repr(exc), "data[].embedding", "check url")
        if len(entries) != n or sorted(vectors) != list(range(n)):
            self._fail("the answer has other rows than asked", len(entries), n, "check the server's limits")
        lengths = {vector.size for vector in vectors.values()}
        if len(lengths) != 1 or 0 in lengths:
            self._fail(
                "the answer's rows differ in length", sorted(lengths), "one length", "check the server"
            )
        rows = np.stack([vectors[i] for i in range(n)])
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            self._fail(
                "the answer has vectors without direction", "NaN, infinity or zeros", "", "check model"
            )
        unit: Matrix = (rows / norms).astype(np.float32)
        return unit

    def _excerpt(self, answer: httpx.Response) -> str:
        text = " ".join(answer.text.split())
        return (text.replace(self._spec.api_key, "(hidden)") if self._spec.api_key else text)[:200]

    def _fail(self, what: str, got: object, wanted: object, mend: str) -> NoReturn:
        where = f"encoder model {self._spec.model} at {self._url}"
        raise EncoderError(f"{where}: {what}", got=got, wanted=wanted, mend=mend)


def _vector(embedding: str | list[float]) -> Vector:
    """A vector from either of the two forms servers send, whichever was asked for.

    >>> _vector("AACAPwAAAEA=").tolist(), _vector([1.0, 2.0]).tolist()
    ([1.0, 2.0], [1.0, 2.0])
    """
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
    return np.asarray(embedding, np.float32).reshape(-1)
