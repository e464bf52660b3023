"""Encoder on any server with ``/v1/embeddings``: vLLM, TEI, Ollama, OpenAI."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from recstream.encoders.base import PLAIN_TEXT, EncoderSpec, UnencodableError
from recstream.encoders.embeddings_api import EmbeddingsApi, RefusedTextsError
from recstream.encoders.transformers import batches, well_formed
from recstream.records.arrays import Matrix, Vector

__all__ = ["OpenAIEncoder"]

BATCH_TEXTS = 32
"""Texts a request: what TEI accepts by default."""
CHARS_A_TOKEN = 4
"""Texts are cut at this many characters a token, since only the server has the tokenizer."""
IN_FLIGHT = 4

_log = logging.getLogger(__name__)


class OpenAIEncoder:
    """An :class:`~recstream.encoders.base.Encoder` that asks a server, several requests at once.

    Vectors are brought to unit length here. Whether a row depends on its neighbours is the server's affair:
    in fp32 it should not beyond 1e-5; half precision may show more.

    A request refused for what may be in it (400, 413, 422; 500 to the last attempt) is halved until the texts
    at fault are found, and a text without a usable vector is at fault too; unless the server does the same to
    a plain text: then the server is at fault, or the settings are.

    Before that, a server that refuses a plain text too is asked for plain numbers in place of base64, and one
    that gives vectors of another length than ``spec.dim`` is asked for so many ``dimensions``.

    The dimension is ``spec.dim``, or, when that is 0, learned from one request at the first need of it.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        self._api = EmbeddingsApi(spec)
        self._attempts = spec.retries + 1
        self._dim = spec.dim
        self._lock = Lock()

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
                self._dim = self._plain_dim(self._attempts)
            return self._dim

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Encode in requests of at most 32 texts; rows come back in the order of the texts.

        Raises:
            EncoderError: the server refused all texts, stayed away after all attempts, or answered nonsense.
            UnencodableError: the server refuses some texts, or gives them no usable vector.
        """
        out = np.zeros((len(texts), self.dim), np.float32)
        sent = [self._cut(text) for text in texts]
        groups = [
            group[start : start + BATCH_TEXTS]
            for group in batches([len(text) for text in sent], self._spec.batch_tokens * CHARS_A_TOKEN)
            for start in range(0, len(group), BATCH_TEXTS)
        ]
        why: dict[int, str] = {}

        def fill(group: list[int]) -> None:
            vectors, failed = self._encode([sent[row] for row in group], self._attempts)
            for place, vector in vectors.items():
                out[group[place]] = vector
            why.update({group[place]: reason for place, reason in failed.items()})

        if len(groups) <= 1:
            for group in groups:
                fill(group)
        else:
            with ThreadPoolExecutor(self._spec.threads or IN_FLIGHT, "encoder") as pool:
                for _ in pool.map(fill, groups):  # raises the first failure
                    pass
        if why:
            raise UnencodableError(why, out)
        return out

    def close(self) -> None:
        """Close the connections; the next ``encode`` would open new ones."""
        self._api.close()

    def _cut(self, text: str) -> str:
        """What is sent for a text."""
        most = self._spec.max_tokens * CHARS_A_TOKEN
        return well_formed(self._spec.prefix + text)[:most] or " "

    def _encode(self, texts: list[str], attempts: int) -> tuple[dict[int, Vector], dict[int, str]]:
        """Unit vectors of the texts, and what is wrong with each that has none, by their places."""
        asked = self._api.form
        try:
            vectors = self._api.ask(texts, asked, attempts=attempts)
        except RefusedTextsError as refusal:
            refused = refusal
        else:
            units, failed = self._units(vectors)
            if failed:
                self._check_server(self._attempts)
                if self._api.form != asked:
                    return self._encode(texts, attempts)
            return units, failed
        self._check_server(1 if refused.fell else self._attempts)
        if self._api.form != asked:
            return self._encode(texts, attempts)
        if len(texts) == 1:
            return {}, {0: f"the server refused it: {refused}"}
        return self._encode_halves(texts, refused)

    def _encode_halves(
        self, texts: list[str], refused: RefusedTextsError
    ) -> tuple[dict[int, Vector], dict[int, str]]:
        """The same, of texts that were refused together."""
        units: dict[int, Vector] = {}
        failed: dict[int, str] = {}
        half = len(texts) // 2
        for start, part in ((0, texts[:half]), (half, texts[half:])):
            # Only what blames a text has to be sure of it.
            attempts = 1 if refused.fell and len(part) > 1 else self._attempts
            vectors, reasons = self._encode(part, attempts)
            units |= {start + place: vector for place, vector in vectors.items()}
            failed |= {start + place: reason for place, reason in reasons.items()}
        if not failed:
            _log.warning(
                "%s refused %s texts at once, but not in halves (%s): such a request costs two more; raise "
                "the server's limits of texts or tokens a request, or lower encoder.batch_tokens",
                *(self._api.url, len(texts), refused),
            )
        return units, failed

    def _units(self, vectors: list[Vector]) -> tuple[dict[int, Vector], dict[int, str]]:
        """The vectors at unit length, and what is wrong with those that are unusable."""
        units: dict[int, Vector] = {}
        failed: dict[int, str] = {}
        for place, vector in enumerate(vectors):
            length = _length(vector)
            if vector.size != self._dim:
                failed[place] = f"the server gave it {vector.size} numbers, wanted {self._dim}"
            elif not 0.0 < length < math.inf:
                failed[place] = "the server gave it a vector without direction: NaN, infinity or zeros"
            else:
                units[place] = (vector / length).astype(np.float32)
        return units, failed

    def _check_server(self, attempts: int) -> None:
        """Make sure that the server can encode at all, so that a text may be blamed.

        Afterwards it may have to be asked in another form.

        Raises:
            EncoderError: it cannot.
        """
        asked = self._api.form  # another thread may change it meanwhile
        got = self._plain_dim(attempts)
        if got != self._dim and self._spec.dim > 0 and asked.dimensions == 0:
            self._api.form = self._api.form._replace(dimensions=self._dim)
            native, got = got, self._plain_dim(attempts, f"gives {got} numbers a text, and ")
            if got == self._dim:
                _log.info("%s shortens vectors of %s numbers to %s", self._api.url, native, got)
        if got != self._dim:
            self._api.fail(
                "the server's vectors have another dimension: it has another model than before, or "
                "encoder.dim is wrong",
                got,
                self._dim,
                "let url and model name the model that the store was made with; for another one set "
                "encoder.dim and start a new store",
            )

    def _plain_dim(self, attempts: int, besides: str = "") -> int:
        """Length of the vector that the server gives a plain text."""
        vector = self._plain(attempts, besides)
        if vector.size == 0:
            self._api.fail("the server's vectors are empty", "no number", "at least one", "check model")
        if not 0.0 < _length(vector) < math.inf:
            self._api.fail(
                "the server's vectors have no direction, that of a plain text neither",
                "NaN, infinity or zeros",
                "finite numbers",
                "check model",
            )
        return vector.size

    def _plain(self, attempts: int, besides: str) -> Vector:
        """The vector that the server gives a plain text, in the form that it understands."""
        text, form = self._cut(PLAIN_TEXT), self._api.form
        try:
            return self._api.ask([text], form, attempts=attempts)[0]
        except RefusedTextsError as error:
            refused = error
        if form.is_packed and not refused.fell:
            plain = form._replace(is_packed=False)
            try:
                (vector,) = self._api.ask([text], plain, attempts=attempts)
            except RefusedTextsError:
                pass  # what it said first is about what it is to be asked
            else:
                _log.info("%s knows no base64: its vectors are sent as text", self._api.url)
                self._api.form = plain
                return vector
        if form.dimensions:
            self._api.fail(
                f"the server {besides}refuses to give {form.dimensions} (dimensions)",
                refused,
                f"{form.dimensions} numbers, which is encoder.dim",
                "set encoder.dim to what the model gives, and start a new store if this one has another",
            )
        mend = "check url, model and prefix, lower max_tokens"
        if refused.fell:
            mend = "check the server, its log says why; start again when it runs"
        self._api.fail("the server refuses a plain text too", refused, "a vector", mend)


def _length(vector: Vector) -> float:
    """In float64: squares of float32 overflow."""
    return float(np.linalg.norm(vector.astype(np.float64)))
