"""Model folders of many kinds, small and drawn by chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["POSITIONS", "WORDS", "tiny_model"]

WORDS = ("a", "plain", "text", "lamp", "red", "blue", "green", "chair")
"""Words that the tokenizers know, beside their special tokens."""
POSITIONS = 64
"""Tokens that the models with absolute positions have room for."""
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def tiny_model(
    folder: Path,
    kind: str = "bert",
    *,
    unknown: bool = True,
    rows: int | None = None,
    added: str = "",
    **config: Any,
) -> Path:
    """Write a model of 16 numbers a text with its tokenizer.

    ``unknown``: whether the tokenizer takes words that it does not know. ``rows``: how many tokens the model
    has vectors of, all if None. ``added``: a word that is added to the tokenizer alone.
    """
    import torch
    import transformers as library
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    words = {word: number for number, word in enumerate((*_SPECIAL, *WORDS))}
    level = models.WordLevel(words, unk_token="<unk>" if unknown else "<none>")
    tokenizer: Any = Tokenizer(level)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    if added:
        tokenizer.add_tokens([added])
    common: dict[str, Any] = {"vocab_size": rows or len(words), "pad_token_id": 1}
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    after_padding = {**bert, "max_position_embeddings": POSITIONS + 2}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "bert": ("Bert", {**bert, "max_position_embeddings": POSITIONS}),
        "mpnet": ("MPNet", after_padding),
        "camembert": ("Camembert", after_padding),
        "xlmr": ("XLMRoberta", after_padding),
        "gpt2": ("GPT2", {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": POSITIONS}),
        "t5": ("T5", {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}),
    }
    if kind == "clip":
        seen = {**bert, "image_size": 16, "patch_size": 8, "projection_dim": 16}
        made: Any = library.CLIPConfig(
            text_config={**common, **bert, "projection_dim": 16}, vision_config=seen, projection_dim=16
        )
        model = library.CLIPModel(made)
    else:
        name, own = kinds[kind]
        more = {"decoder_start_token_id": 1} if kind == "t5" else {}
        settings = getattr(library, f"{name}Config")(**{**common, **own, **more, **config})
        model = getattr(library, f"{name}Model")(settings)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
