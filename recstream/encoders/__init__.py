"""Encoders: texts to unit vectors by a local model, by a server, or by hashing (for tests)."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from recstream.encoders.base import Encoder, EncoderSpec

__all__ = ["ENCODERS", "open_encoder"]

ENCODERS: Final[dict[str, str]] = {
    "transformers": "recstream.encoders.transformers:TransformersEncoder",
    "openai": "recstream.encoders.openai:OpenAIEncoder",
    "hashing": "recstream.encoders.hashing:HashingEncoder",
}
"""Module and class by ``encoder.backend``: imported when it is opened, and called with an `EncoderSpec`."""


def open_encoder(spec: EncoderSpec) -> Encoder:
    """Open the encoder that ``spec`` names.

    Cheap: identity, label and dimension are known at once, but weights are loaded by the first
    ``encode``, so that a run whose texts are all cached never imports torch.

    Raises:
        EncoderError: the model or the server cannot be used as asked.

    >>> from recstream.config import Settings
    >>> from recstream.runtime.wiring import encoder_spec
    >>> encoder = open_encoder(encoder_spec(Settings.load(None, {}, {"encoder.backend": "hashing"})))
    >>> encoder.label, encoder.encode(["jazz"]).shape
    ('hashing-v1', (1, 384))
    """
    module, name = ENCODERS[spec.backend].split(":")
    encoder: Encoder = getattr(import_module(module), name)(spec)
    return encoder
