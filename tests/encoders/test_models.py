"""Models of many kinds, and texts that they fail on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recstream.encoders.base import (
    PLAIN_TEXT,
    Encoder,
    EncoderError,
    EncoderSettingsError,
    UnencodableError,
)
from recstream.encoders.transformers import TransformersEncoder
from recstream.runtime.faults import EXIT_SETTINGS, exit_code
from recstream.testing.encoders import EncoderContract, UnencodableContract
from tests.support.builders import encoder_spec
from tests.support.tiny_models import POSITIONS, tiny_model

pytestmark = pytest.mark.model

Fault = Callable[[Any], Exception | None]
"""What a model raises for its input ids, of shape ``(texts, tokens)``."""


def opened(folder: Path, **changes: Any) -> TransformersEncoder:
    return TransformersEncoder(encoder_spec(model=str(folder), **changes))


def failing(folder: Path, fault: Fault) -> TransformersEncoder:
    """A real model that fails on some inputs."""
    encoder = opened(folder)
    encoder.encode(["red"])

    def look(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        error = fault(kwargs["input_ids"])
        if error is not None:
            raise error

    loaded: Any = encoder._model()
    loaded._model.register_forward_pre_hook(look, with_kwargs=True)
    return encoder


@pytest.mark.parametrize("kind", ["bert", "mpnet", "camembert", "xlmr", "gpt2"])
def test_a_text_is_cut_where_the_model_has_no_more_positions(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = opened(tiny_model(tmp_path, kind), max_tokens=512)
    kept = POSITIONS - 2  # beside the special tokens
    texts = ["lamp " * kept + "chair " * 300, "lamp " * kept, "lamp " * (kept - 1), "red lamp"]
    cut, whole, shorter, _ = encoder.encode(texts)
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    assert not np.allclose(whole, shorter, atol=1e-6)
    assert f"has positions for {POSITIONS} tokens: texts are cut there" in caplog.text


def test_of_an_encoder_and_decoder_the_encoder_is_used(t5: Path) -> None:
    """One with relative positions, which has no limit of its own."""
    encoder = opened(t5, max_tokens=512)
    longest, longer, _ = encoder.encode(["lamp " * 400, "lamp " * 399 + "red", "red lamp"])
    assert not np.allclose(longest, longer, atol=1e-6)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), "t5")


@pytest.fixture(scope="module")
def without_zebra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), added="zebra")


class TestAnEncoderWithADecoder(EncoderContract):
    @pytest.fixture(autouse=True)
    def find(self, t5: Path) -> None:
        self.path = t5

    def make(self) -> Encoder:
        return opened(self.path)

    def test_different_texts_have_different_vectors(self, encoder: Encoder) -> None:
        a, b = encoder.encode(["red lamp", "blue chair"])
        assert float(a @ b) < 0.99


class TestUnencodableForATokenThatTheModelDoesNotHave(UnencodableContract):
    poison = "the zebra"

    @pytest.fixture(autouse=True)
    def find(self, without_zebra: Path) -> None:
        self.path = without_zebra

    def make(self) -> Encoder:
        return opened(self.path)


def test_a_text_that_the_tokenizer_fails_on_is_to_blame(tmp_path: Path) -> None:
    encoder = opened(tiny_model(tmp_path, unknown=False))
    with pytest.raises(UnencodableError, match=r"1 of 3 .* text 1: the tokenizer of model .* failed on it"):
        encoder.encode(["red lamp", "zebra", "blue chair"])


@pytest.mark.parametrize("kind", [IndexError, RuntimeError, ValueError, AssertionError])
def test_a_text_that_the_model_fails_on_is_to_blame_whatever_it_raises(
    tmp_path: Path, kind: type[Exception]
) -> None:
    chair = 11
    encoder = failing(tiny_model(tmp_path), lambda ids: kind("oh no\nsee above") if chair in ids else None)
    texts = [f"{'lamp ' * (n % 5)} red" for n in range(20)]
    with pytest.raises(UnencodableError) as caught:
        encoder.encode([*texts[:7], "blue chair", *texts[7:], "green chair"])
    said = f"model {tmp_path.name} failed on it, 4 tokens long: {kind.__name__}: oh no"
    assert caught.value.why == {7: said, 21: said}
    np.testing.assert_allclose(np.delete(caught.value.vectors, [7, 21], 0), encoder.encode(texts), atol=1e-5)


def test_a_model_that_fails_on_a_plain_text_too_is_at_fault_itself(tmp_path: Path) -> None:
    encoder = failing(tiny_model(tmp_path), lambda ids: RuntimeError("device lost"))
    with pytest.raises(EncoderError, match=r"fails on a plain text, too: got RuntimeError: device lost"):
        encoder.encode(["red", "lamp"])


def test_what_does_not_fit_into_memory_at_once_is_encoded_in_halves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    encoder = failing(tiny_model(tmp_path), lambda ids: full if len(ids) > 2 else None)
    texts = ["red lamp", "blue", "green chair", PLAIN_TEXT, "lamp"]
    np.testing.assert_allclose(encoder.encode(texts), opened(tmp_path).encode(texts), atol=1e-5)
    assert "lower encoder.batch_tokens" in caplog.text


def test_no_text_is_blamed_where_memory_ran_out(tmp_path: Path) -> None:
    full = RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    encoder = failing(tiny_model(tmp_path), lambda ids: full if ids.shape[1] > 9 else None)
    with pytest.raises(
        EncoderError, match=r"22 tokens long: RuntimeError: CUDA out of memory.*lower max_tok"
    ):
        encoder.encode(["red", "lamp " * 20])


def without(folder: Path, part: str) -> None:
    """Drop the parts of this name from the weights."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    kept = {name: rows for name, rows in load_file(path).items() if part not in name}
    save_file(kept, path, metadata={"format": "pt"})


def spoilt(folder: Path, fault: str) -> Path:
    """A model folder with one thing wrong."""
    if fault in ("clip", "bert"):
        return tiny_model(folder, fault)
    if fault == "vocabulary":
        return tiny_model(folder, rows=10)
    tiny_model(folder)
    if fault == "tokenizer":
        (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    elif fault == "kind":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "novel"}))
    else:
        without(folder, fault)
    return folder


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("clip", r"\(CLIPModel\) is no text encoder: got \w+Error: "),
        ("vocabulary", "belongs to another model: got 12 tokens, wanted at most the 10"),
        ("tokenizer", r"tokenizer\.json of model .* cannot be read: got "),
        ("kind", "transformers cannot load .*: got .*novel"),
        ("word_embeddings", r"do not belong to its config\.json: got 1 of its parts .*word_embeddings"),
        ("encoder.layer", r"do not belong to its config\.json: got \d+ of its parts .*layer"),
    ],
)
def test_a_folder_that_is_no_text_encoder_is_refused_with_the_reason(
    tmp_path: Path, fault: str, said: str
) -> None:
    encoder = opened(spoilt(tmp_path, fault))
    with pytest.raises(EncoderSettingsError, match=f"{said}.*; to mend it: ") as caught:
        encoder.encode(["red lamp"])
    assert exit_code(caught.value) == EXIT_SETTINGS


def test_a_model_saved_without_its_pooler_is_fine(tmp_path: Path) -> None:
    without(tiny_model(tmp_path), "pooler")
    assert opened(tmp_path).encode(["red lamp"]).shape == (1, 16)
