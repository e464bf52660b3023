"""Requests to a server's ``/embeddings``: address, form, attempts, waits, and the meaning of each fault."""

from __future__ import annotations

import base64
import binascii
import re
import time
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import numpy as np
import stamina

from recstream.encoders.base import EncoderError, EncoderSpec
from recstream.records.arrays import Vector

__all__ = ["EmbeddingsApi", "QuestionForm", "RefusedTextsError"]

PASSING = frozenset({408, 429})
"""Answers below 500 that may be another one soon: time-out, too many requests."""
ABSENT = frozenset({404, 405})
"""Answers where nothing is that can be asked for vectors, or no such model."""
REFUSING = frozenset({400, 413, 422})
"""Answers to a request that has something in it the server will not have."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
LONGEST_ASKED_S = 60.0
"""A server may ask to be left alone for this long."""


class QuestionForm(NamedTuple):
    """How a server is asked, beside the model and the texts."""

    is_packed: bool = True
    """Vectors are wanted as base64, which is a quarter of the bytes that they take as text."""
    dimensions: int = 0
    """Length of vector that a model which can shorten them is asked for; 0: its own."""


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
        self._urls = _addresses(spec.url)
        self._at = 0
        self._has_answered = False
        self._proxy = _proxy_for(spec.url)
        self.form = QuestionForm()
        """How to ask: another form as soon as the server is known to understand no other."""
        self._client: httpx.Client | None = None
        self._lock = Lock()

    @property
    def url(self) -> str:
        """Where the server is asked."""
        return self._urls[self._at]

    def ask(self, texts: list[str], form: QuestionForm, *, attempts: int) -> list[Vector]:
        """One vector a text, as the server gives them: of any length, perhaps not finite.

        Raises:
            EncoderError: no answer after all attempts, a refusal that no text explains, or nonsense.
            RefusedTextsError: a refusal that a text, or the form, may explain.
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
                    return self._attempt(texts, form)
        except _PassingError as passing:
            if passing.status == httpx.codes.INTERNAL_SERVER_ERROR:
                raise RefusedTextsError(f"{passing}, attempts: {attempts}", fell=True) from passing
            self.fail(
                f"no answer after {attempts} attempts",
                passing,
                f"an answer within {self._spec.timeout_s:g} s",
                f"check that the server runs, and its log; raise timeout_s or retries{self._without_proxy()}",
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
        through = f" through the proxy {_shown(self._proxy)} of the environment" if self._proxy else ""
        where = f"encoder model {self._spec.model} at {self.url}{through}"
        raise EncoderError(f"{where}: {what}", got=got, wanted=wanted, mend=mend)

    def _without_proxy(self) -> str:
        return f"; to go without the proxy, set NO_PROXY={urlsplit(self.url).hostname}" if self._proxy else ""

    def _attempt(self, texts: list[str], form: QuestionForm) -> list[Vector]:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            client, at = self._client, self._at
        question: dict[str, Any] = {"model": self._spec.model, "input": texts}
        if form.is_packed:
            question["encoding_format"] = "base64"
        if form.dimensions:
            question["dimensions"] = form.dimensions
        try:
            answer = client.post(self._urls[at], json=question)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as exc:
            raise _PassingError(f"{type(exc).__name__}: {exc}") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            mend = f"check url{self._without_proxy()}"
            self.fail("cannot ask the server", f"{type(exc).__name__}: {exc}", "", mend)
        status = answer.status_code
        said = f"HTTP {status}: {self._excerpt(answer)}"
        if status in PASSING or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            wait_s = _wanted_wait(answer.headers.get("Retry-After"))
            raise _PassingError(said, status=status, wait_s=wait_s)
        if status in ABSENT and not self._has_answered and at + 1 < len(self._urls):
            with self._lock:
                self._at = max(self._at, at + 1)
            return self._attempt(texts, form)
        if status in REFUSING:
            raise RefusedTextsError(said, fell=False)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            held = "the api_key was refused" if self._spec.api_key else "no api_key was sent"
            self.fail(held, said, "", "set api_key to a valid key")
        if status != httpx.codes.OK:
            elsewhere = "" if at == 0 else f"; the same at {self._urls[0]}"
            mend = f"check url and model{self._without_proxy()}"
            self.fail("the server refused the request", said + elsewhere, "", mend)
        self._has_answered = True
        return self._vectors(answer, len(texts))

    def _connect(self) -> httpx.Client:
        key = self._spec.api_key
        try:
            return httpx.Client(
                timeout=self._spec.timeout_s,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                transport=httpx.HTTPTransport(proxy=self._proxy),  # looks into the environment for none
            )
        except (ImportError, ValueError) as exc:  # of a kind that it does not know, or lacks a package for
            self.fail("the proxy cannot be used", exc, "", f"correct it{self._without_proxy()}")

    def _vectors(self, answer: httpx.Response, n: int) -> list[Vector]:
        """The answer's vectors, by their ``index``."""
        try:
            entries: list[dict[str, Any]] = answer.json()["data"]
            places = [int(entry["index"]) for entry in entries]
            vectors = dict(zip(places, (_vector(entry["embedding"]) for entry in entries), strict=True))
        except (ValueError, KeyError, TypeError, binascii.Error) as exc:
            got = f"{exc!r} in {self._excerpt(answer)!r}"
            wanted = "data[].index and data[].embedding"
            self.fail("the answer is not an embeddings answer", got, wanted, "check url")
        if len(entries) != n:
            self.fail("the answer has other rows than asked", len(entries), n, "check the server's limits")
        if sorted(places) != list(range(n)):
            got = f"index {', '.join(map(str, places[:8]))}{', ...' if n > len(places[:8]) else ''}"
            wanted = f"each index from 0 to {n - 1} once"
            self.fail("the answer has other rows than asked", got, wanted, "use a server that numbers them")
        return [vectors[i] for i in range(n)]

    def _excerpt(self, answer: httpx.Response) -> str:
        text = " ".join(answer.text.split())
        return (text.replace(self._spec.api_key, "(hidden)") if self._spec.api_key else text)[:200]


def _addresses(url: str) -> list[str]:
    """Where a server may be asked, most likely first, whose address is given with or without its version.

    >>> _addresses("http://localhost:8000"), _addresses("http://localhost:8000/v1/")
    (['http://localhost:8000/v1/embeddings'], ['http://localhost:8000/v1/embeddings'])
    >>> _addresses("https://host/v1beta/openai")
    ['https://host/v1beta/openai/embeddings', 'https://host/v1beta/openai/v1/embeddings']
    >>> _addresses("https://host/deployments/small/embeddings?api-version=1")
    ['https://host/deployments/small/embeddings?api-version=1']
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.endswith("/embeddings"):
        paths = [path]
    elif path.endswith("/v1"):
        paths = [f"{path}/embeddings"]
    else:
        paths = [f"{path}/embeddings", f"{path}/v1/embeddings"] if path else ["/v1/embeddings"]
    return [urlunsplit(parts._replace(path=one)) for one in paths]


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; this machine is reached without one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _shown(proxy: str) -> str:
    """A proxy's address without a password.

    >>> _shown("http://ann:secret@proxy:3128")
    'http://proxy:3128'
    """
    return re.sub(r"//[^/@]*@", "//", proxy)


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


def _vector(embedding: str | list[float] | list[list[float]]) -> Vector:
    """A vector from either of the two forms servers send, whichever was asked for.

    Raises:
        ValueError: it is neither.

    >>> _vector("AACAPwAAAEA=").tolist(), _vector([1.0, 2.0]).tolist(), _vector([[1.0, 2.0]]).tolist()
    ([1.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    """
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is judged with the others that have no direction
        numbers = np.asarray(embedding, np.float32)
    if numbers.ndim > 1 and numbers.shape[0] != 1:
        raise ValueError(f"{numbers.shape[0]} vectors for one text: the server does not pool its tokens")
    return numbers.reshape(-1)
