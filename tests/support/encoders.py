"""An encoder that refuses some texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from recstream.encoders.base import Encoder, UnencodableError
from recstream.records.arrays import Matrix

__all__ = ["FussyEncoder"]


class FussyEncoder:
    """An encoder that cannot encode some texts, and encodes all others as the one inside.

    >>> from recstream.encoders import open_encoder
    >>> from tests.support.builders import encoder_spec
    >>> fussy = FussyEncoder(open_encoder(encoder_spec(backend="hashing")), {"brawl"})
    >>> fussy.encode(["jazz", "brawl"])
    Traceback (most recent call last):
        ...
    recstream.encoders.base.UnencodableError: 1 of 2 texts cannot be encoded; text 1: told to refuse it
    """

    def __init__(self, inner: Encoder, refused: Collection[str]) -> None:
        self._inner = inner
        self.refused = refused
        """May be changed: a text that is taken out can be encoded from then on."""

    @property
    def identity(self) -> str:
        """As inside."""
        return self._inner.identity

    @property
    def label(self) -> str:
        """As inside."""
        return self._inner.label

    @property
    def dim(self) -> int:
        """As inside."""
        return self._inner.dim

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Encode the texts, in their order.

        Raises:
            UnencodableError: a refused text is among them.
        """
        rows = self._inner.encode(texts)
        why = {place: "told to refuse it" for place, text in enumerate(texts) if text in self.refused}
        if why:
            raise UnencodableError(why, rows)
        return rows

    def close(self) -> None:
        """Close the one inside."""
        self._inner.close()
