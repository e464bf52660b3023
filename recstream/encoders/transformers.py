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

from recstream.encoders.base import (
    PLAIN_TEXT,
    EncoderError,
    EncoderSettingsError,
    EncoderSpec,
    UnencodableError,
)
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

    A batch that the model fails on is halved until the texts at fault are found, unless the model fails on a
    plain text too: then it, the machine or the settings are at fault.

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
            EncoderError: the model cannot be loaded, memory ran out, or the model fails on any text.
            UnencodableError: the model fails on some texts, or gives them a vector that is not finite, but
                not on a plain text.
        """
        out = np.zeros((len(texts), self.dim), np.float32)
        if not texts:
            return out
        model = self._model()
        why: dict[int, str] = {}
        for start in range(0, len(texts), WINDOW):
            tokens, odd = model.tokenize(texts[start : start + WINDOW])
            why |= {start + row: reason for row, reason in odd.items()}
            sound = [row for row in range(len(tokens)) if row not in odd]
            for places in batches([len(tokens[row]) for row in sound], self._spec.batch_tokens):
                rows = [sound[place] for place in places]
                vectors, failed = model.encode([tokens[row] for row in rows])
                out[[start + row for row in rows]] = vectors
                why |= {start + rows[place]: reason for place, reason in failed.items()}
        lost = [row for row in np.flatnonzero(~_have_direction(out)).tolist() if row not in why]
        if lost:
            if not _have_direction(model.plain())[0]:
                raise EncoderError(
                    f"model {self.label} gave vectors that are not finite, for a plain text too",
                    wanted="finite numbers",
                    mend="use dtype = fp32, or check the model's files",
                )
            why |= dict.fromkeys(lost, f"model {self.label} gave it a vector that is not finite")
        if why:
            raise UnencodableError(why, out)
        return out

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of the texts as the model sees them: with prefix and special tokens, cut at the limit."""
        return sum(map(len, self._model().tokenize(texts)[0]))

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
    """The loaded half: tokenizer and weights.

    Raises:
        EncoderSettingsError: it cannot be loaded, or cannot encode a plain text.
    """

    def __init__(self, spec: EncoderSpec, files: ModelFiles) -> None:
        import torch

        self._spec = spec
        self._name, self._dim = files.name, files.dim
        if spec.threads > 0:
            torch.set_num_threads(spec.threads)
        if spec.device == "cuda" and not torch.cuda.is_available():
            raise EncoderSettingsError(
                "no CUDA device", got="cuda", wanted="cpu", mend="set device = cpu, or add a GPU"
            )
        self._model: Any = _weights(spec, files)
        self._words = _words_of(self._model)
        self._pad = files.pad_id if self._words is None or 0 <= files.pad_id < self._words else 0
        self._tokenizer = _tokenizer(files)
        self._check_vocabulary()
        self._cut(min([files.max_positions, *_positions_of(self._model)]))
        self._check()
        _log.info("encoder loaded model=%s device=%s dtype=%s", files.name, spec.device, spec.dtype)

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], dict[int, str]]:
        """Token ids, cut at the limit, never an empty row; and why some texts, by place, have none."""
        whole = [well_formed(self._spec.prefix + text) for text in texts]
        try:
            found = self._tokenizer.encode_batch_fast(whole)
        except Exception as error:  # tokenizers raises nothing more precise
            if len(texts) > 1:
                each = [self.tokenize([text]) for text in texts]
                odd = {place: why[0] for place, (_, why) in enumerate(each) if why}
                return [ids for (ids,), _ in each], odd
            return [[self._pad]], {0: f"the tokenizer of model {self._name} failed on it: {_said(error)}"}
        return [encoding.ids or [self._pad] for encoding in found], {}

    def encode(self, tokens: Sequence[Sequence[int]]) -> tuple[Matrix, dict[int, str]]:
        """Unit rows of one batch, zeros for the texts that the model fails on; and why, by their places.

        Raises:
            EncoderError: it fails on a plain text too, or runs out of memory on a single text.
        """
        try:
            return self._forward(tokens), {}
        except Exception as error:  # whatever the code of a model raises
            failure = error
        self.plain()
        if len(tokens) == 1:
            said = f"model {self._name} failed on it, {len(tokens[0])} tokens long: {_said(failure)}"
            if _is_of_the_machine(failure):
                raise EncoderError(said, mend="lower max_tokens, or give it more memory") from failure
            return np.zeros((1, self._dim), np.float32), {0: said}
        half = len(tokens) // 2
        (first, odd), (second, others) = self.encode(tokens[:half]), self.encode(tokens[half:])
        failed = odd | {half + place: reason for place, reason in others.items()}
        if not failed:
            _log.warning(
                "model=%s failed on %d texts at once, but not in halves (%s): lower encoder.batch_tokens",
                *(self._name, len(tokens), _said(failure)),
            )
        return np.concatenate([first, second]), failed

    def plain(self) -> Matrix:
        """The vector of a plain text, shape ``(1, dim)``.

        Raises:
            EncoderError: the model fails on it.
        """
        try:
            tokens, odd = self.tokenize([PLAIN_TEXT])
            if odd:
                raise ValueError(odd[0])
            return self._forward(tokens)
        except Exception as error:
            raise EncoderError(
                f"model {self._name} fails on a plain text, too",
                got=_said(error),
                wanted="a vector",
                mend="start again; if it fails again, check the model's files, the device and its memory",
            ) from error

    def _forward(self, tokens: Sequence[Sequence[int]]) -> Matrix:
        """Unit rows of one batch, padded on the right. Raises whatever the model does."""
        import torch

        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        ids = np.full(mask.shape, self._pad, np.int64)
        ids[mask] = np.fromiter((token for row in tokens for token in row), np.int64, int(lengths.sum()))
        if self._words is not None and ids.max() >= self._words:  # on a GPU it would end all computing
            raise IndexError(f"token {ids.max()} is none of the model's {self._words}")
        device = self._spec.device
        with torch.inference_mode():
            attention = torch.from_numpy(mask).to(device)
            hidden = self._model(
                input_ids=torch.from_numpy(ids).to(device), attention_mask=attention.long()
            ).last_hidden_state
            pooled = self._pool(hidden, attention, torch.from_numpy(lengths).to(device))
            rows: Matrix = torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()
        return rows

    def _check_vocabulary(self) -> None:
        known = self._tokenizer.get_vocab_size(with_added_tokens=False)
        if self._words is not None and known > self._words:
            raise EncoderSettingsError(
                f"tokenizer.json of model {self._name} belongs to another model",
                got=f"{known} tokens",
                wanted=f"at most the {self._words} that the model has vectors of",
                mend="save model and tokenizer together with save_pretrained()",
            )

    def _cut(self, positions: int) -> None:
        """Have the tokenizer cut texts at the limit of the settings, or of the model if that is lower."""
        wanted = self._spec.max_tokens
        try:
            self._tokenizer.enable_truncation(min(wanted, positions))
        except Exception as error:  # tokenizers raises nothing more precise
            raise EncoderSettingsError(
                f"texts for model {self._name} cannot be cut at {min(wanted, positions)} tokens",
                got=_said(error),
                mend="raise max_tokens, or check max_position_embeddings in config.json",
            ) from error
        if positions < wanted:
            _log.warning(
                "model=%s has positions for %d tokens: texts are cut there, encoder.max_tokens=%d is more",
                *(self._name, positions, wanted),
            )

    def _check(self) -> None:
        """Refuse a model that is none for texts, before any text is blamed."""
        try:
            got = self.plain().shape[1]
        except EncoderError as error:
            if _is_of_the_machine(error.__cause__):
                raise
            raise EncoderSettingsError(
                f"model {self._name} ({type(self._model).__name__}) is no text encoder",
                got=error.got,
                wanted="a model that turns a text into vectors of its tokens",
                mend="name another model, or serve this one and use the openai backend",
            ) from error
        if got != self._dim:
            raise EncoderSettingsError(
                f"model {self._name} gives vectors of another length than its config.json says",
                got=got,
                wanted=self._dim,
                mend="name another model, or serve this one and use the openai backend",
            )

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self._spec.pooling == "cls":
            return hidden[:, 0]
        if self._spec.pooling == "last":
            return hidden[range(len(lengths)), lengths - 1]
        kept = hidden.float() * mask[:, :, None]
        return kept.sum(1) / lengths[:, None]


def _weights(spec: EncoderSpec, files: ModelFiles) -> Any:
    """The model; of an encoder and decoder the encoder."""
    import torch

    try:
        with _silence():
            from transformers import AutoModel

            model, loading = AutoModel.from_pretrained(
                str(files.folder),
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=torch.float32 if spec.dtype == "fp32" else torch.bfloat16,
                output_loading_info=True,
            )
        has_decoder = getattr(model.config, "is_encoder_decoder", False)
        if has_decoder:
            model = model.get_encoder()
        model = model.eval().requires_grad_(False).to(spec.device)
    except Exception as error:  # whatever the code of a model raises
        kind = EncoderError if _is_of_the_machine(error) else EncoderSettingsError
        raise kind(
            f"transformers cannot load {files.name}",
            got=_said(error),
            mend="name a folder with a supported model",
        ) from error
    unused = ("pooler", "decoder.") if has_decoder else ("pooler",)
    absent = [name for name in sorted(loading["missing_keys"]) if not name.startswith(unused)]
    if any("embed" in name or "layer" in name for name in absent):  # drawn by chance, at each start anew
        raise EncoderSettingsError(
            f"the weights of {files.name} do not belong to its config.json",
            got=f"{len(absent)} of its parts are not there, such as {absent[0]}",
            wanted="all that the model computes with",
            mend="fetch the model again, or save it with save_pretrained()",
        )
    return model


def _tokenizer(files: ModelFiles) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(files.folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing more precise
        raise EncoderSettingsError(
            f"tokenizer.json of model {files.name} cannot be read",
            got=_said(error),
            mend="save the fast tokenizer again with save_pretrained()",
        ) from error
    tokenizer.no_padding()
    return tokenizer


def _words_of(model: Any) -> int | None:
    """How many tokens the model has a vector of, if it says so."""
    try:
        rows = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):  # of a kind that has several, or none
        return None
    found: int | None = getattr(rows, "num_embeddings", None)
    return found


def _positions_of(model: Any) -> Iterator[int]:
    """How many tokens each table of absolute positions of texts in the model has room for.

    RoBERTa and its kin number positions from the padding id + 1.
    """
    import torch

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if any(part in name for part in ("vision", "visual", "audio")):
            continue
        if isinstance(module, torch.nn.Embedding) and ("position" in last or last == "wpe"):
            yield module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)


def _said(error: Exception) -> str:
    """What an error says, in its first line.

    >>> _said(IndexError("index out of range in self"))
    'IndexError: index out of range in self'
    """
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _is_of_the_machine(error: BaseException | None) -> bool:
    """Whether memory ran out or the GPU failed: torch has no error of its own for either on every device.

    >>> _is_of_the_machine(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."))
    True
    >>> _is_of_the_machine(IndexError("index out of range in self"))
    False
    """
    signs = ("out of memory", "can't allocate memory", "CUDA error")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


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
