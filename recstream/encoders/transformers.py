"""Encoder on torch and transformers: any local folder or hub name, encoder or decoder models.

Opening reads only the model's small files and hashes its weights. Torch is imported by the first ``encode``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recstream.encoders.base import PLAIN_TEXT, EncoderError, EncoderSpec, UnencodableError
from recstream.encoders.model_files import ModelFiles, find_model
from recstream.records.arrays import Matrix

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersEncoder"]

WINDOW = 4096
"""Texts tokenised and sorted by length at a time: bounds memory on a call with a million texts."""

_log = logging.getLogger(__name__)


class TransformersEncoder:
    """An :class:`~recstream.encoders.base.Encoder` on this machine's processor or accelerator.

    Rows are independent of their neighbours to 1e-5 in fp32, and to about 2e-3 in bf16. ``threads`` sets
    torch's threads for the whole process.

    Raises:
        EncoderError: the folder is not a model this can run, or its digest or dimension is not as expected.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        self._files: ModelFiles = find_model(spec)
        self._loaded: _Model | None = None
        self._lock = Lock()

    @property
    def identity(self) -> str:
        """Digests of weights, config and tokenizer; pooling, prefix, token limit, dtype and dimension."""
        files, spec = self._files, self._spec
        return (
            f"transformers;sha256={files.digest};config={files.config_digest};tokenizer={files.tokenizer_digest};"
            f"pooling={spec.pooling};prefix={spec.prefix!r};max_tokens={spec.max_tokens};dtype={spec.dtype};"
            f"dim={files.dim}"
        )

    @property
    def label(self) -> str:
        """Model name and the first digits of its digest."""
        return f"{self._files.name}@{self._files.digest[:8]}"

    @property
    def dim(self) -> int:
        """From the model's ``config.json``."""
        return self._files.dim

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Encode in length-sorted batches; rows come back in the order of the texts.

        Raises:
            EncoderError: the model cannot be loaded, memory ran out, or no vector is finite.
            UnencodableError: the model gave some texts a vector that is not finite, but not a plain text.
        """
        out = np.empty((len(texts), self.dim), np.float32)
        if not texts:
            return out
        model = self._model()
        for start in range(0, len(texts), WINDOW):
            tokens = model.tokenize(texts[start : start + WINDOW])
            for rows in batches([len(ids) for ids in tokens], self._spec.batch_tokens):
                out[[start + row for row in rows]] = model.forward([tokens[row] for row in rows])
        lost = np.flatnonzero(~_have_direction(out)).tolist()
        if lost:
            if not _have_direction(model.forward(model.tokenize([PLAIN_TEXT])))[0]:
                raise EncoderError(
                    f"model {self.label} gave vectors that are not finite, for a plain text too",
                    wanted="finite numbers",
                    mend="use dtype = fp32, or check the model's files",
                )
            why = f"model {self.label} gave it a vector that is not finite"
            raise UnencodableError(dict.fromkeys(lost, why), out)
        return out

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of the texts as the model sees them: with prefix and special tokens, cut at the limit."""
        return sum(map(len, self._model().tokenize(texts)))

    def _model(self) -> _Model:
        with self._lock:
            if self._loaded is None:
                self._loaded = _Model(self._spec, self._files)
            return self._loaded

    def close(self) -> None:
        """Drop the weights; the next ``encode`` would load them again."""
        self._loaded = None


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows grouped so that a group, padded to its longest, stays within ``budget`` tokens.

    Longest first, so that memory peaks at once. A row above the budget goes alone.

    >>> list(batches([3, 9, 2, 8], 18))
    [[1, 3], [0, 2]]
    """
    group: list[int] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if group and longest * (len(group) + 1) > budget:
            yield group
            group = []
        if not group:
            longest = lengths[row]
        group.append(row)
    if group:
        yield group


def _have_direction(rows: Matrix) -> npt.NDArray[np.bool_]:
    """Which rows are finite and not zeros."""
    return np.logical_and(np.isfinite(rows).all(axis=1), rows.any(axis=1))


class _Model:
    """The loaded half: tokenizer and weights."""

    def __init__(self, spec: EncoderSpec, files: ModelFiles) -> None:
        import torch
        from tokenizers import Tokenizer

        self._spec = spec
        self._tokenizer = Tokenizer.from_file(str(files.folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(spec.max_tokens, files.max_positions))
        self._pad = files.pad_id
        if spec.threads > 0:
            torch.set_num_threads(spec.threads)
        if spec.device == "cuda" and not torch.cuda.is_available():
            raise EncoderError(
                "no CUDA device", got="cuda", wanted="cpu", mend="set device = cpu, or add a GPU"
            )
        try:
            with _silence():
                from transformers import AutoModel

                model = AutoModel.from_pretrained(
                    str(files.folder),
                    local_files_only=True,
                    use_safetensors=True,
                    torch_dtype=torch.float32 if spec.dtype == "fp32" else torch.bfloat16,
                )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as exc:
            raise EncoderError(
                f"transformers cannot load {files.name}", got=exc, mend="name a folder with a supported model"
            ) from exc
        self._model: Any = model.eval().requires_grad_(False).to(spec.device)
        _log.info("encoder loaded model=%s device=%s dtype=%s", files.name, spec.device, spec.dtype)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids, cut at the limit; never an empty row."""
        whole = [well_formed(self._spec.prefix + text) for text in texts]
        return [encoding.ids or [self._pad] for encoding in self._tokenizer.encode_batch_fast(whole)]

    def forward(self, tokens: Sequence[Sequence[int]]) -> Matrix:
        """Unit rows of one batch, padded on the right."""
        import torch

        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        ids = np.full(mask.shape, self._pad, np.int64)
        ids[mask] = np.fromiter((token for row in tokens for token in row), np.int64, int(lengths.sum()))
        device = self._spec.device
        try:
            with torch.inference_mode():
                attention = torch.from_numpy(mask).to(device)
                hidden = self._model(
                    input_ids=torch.from_numpy(ids).to(device), attention_mask=attention.long()
                ).last_hidden_state
                pooled = self._pool(hidden, attention, torch.from_numpy(lengths).to(device))
                rows: Matrix = torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()
        except RuntimeError as exc:  # torch's own errors, running out of memory among them
            raise EncoderError(
                f"the model failed on a batch of {len(tokens)} texts",
                got=str(exc).partition("\n")[0],
                mend="lower batch_tokens",
            ) from exc
        return rows

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self._spec.pooling == "cls":
            return hidden[:, 0]
        if self._spec.pooling == "last":
            return hidden[range(len(lengths)), lengths - 1]
        kept = hidden.float() * mask[:, :, None]
        return kept.sum(1) / lengths[:, None]


def well_formed(text: str) -> str:
    r"""The text with lone surrogates replaced: tokenizers and JSON take none.

    >>> well_formed("caf\u00e9 \ud800!")
    'café ?!'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


@contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers from writing bars and advice to the terminal while a model loads."""
    from transformers.utils import logging as library

    level, had_bar = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if had_bar:
            library.enable_progress_bar()
