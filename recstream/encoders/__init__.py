"""Encoders: texts to unit vectors by a local model, by a server, or by hashing (for tests)."""

from __future__ import annotations

from recstream.encoders.base import Encoder
from recstream.encoders.spec import EncoderError, EncoderSpec

__all__ = ["EncoderError", "EncoderSpec", "open_encoder"]


def open_encoder(spec: EncoderSpec) -> Encoder:
    """Open the encoder that ``spec`` names.

    Cheap: identity, label and dimension are known at once, but weights are loaded by the first
    ``encode``, so that a run whose texts are all cached never imports torch.

    Raises:
        EncoderError: the model or the server cannot be used as asked.

    >>> encoder = open_encoder(EncoderSpec(backend="hashing", dim=64))
    >>> encoder.label, encoder.encode(["jazz"]).shape
    ('hashing-v1', (1, 64))
    """
    if spec.backend == "hashing":
        from recstream.encoders.hashing import HashingEncoder

        return HashingEncoder(spec)
    if spec.backend == "openai":
        from recstream.encoders.openai import OpenAIEncoder

        return OpenAIEncoder(spec)
    from recstream.encoders.transformers import TransformersEncoder

    return TransformersEncoder(spec)
