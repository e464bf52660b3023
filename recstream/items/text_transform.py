"""The text transform: a versioned linear map of the encoder's space to the one that texts are compared in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Matrix

__all__ = ["DIMS", "FREEZE_AT", "REFIT_GROWTH", "TextTransform", "fit", "plain"]

DIMS: Final = 64
"""Most dimensions kept. Lists are as good as with 128, or with all 384 of MiniLM, at less cost."""

REFIT_GROWTH: Final = 1.25
"""Factor by which a small catalogue grows before its transform is fitted again: that costs O(1) an item."""
FREEZE_AT: Final = 1024
"""Items from which on a fitted transform is kept for good."""


@dataclass(frozen=True, eq=False)
class TextTransform:
    """Mean-centring, and projection on the directions in which the items' texts differ.

    Raw sentence vectors share a large common direction, which says nothing about taste (Mu and Viswanath,
    ICLR 2018, "All-but-the-Top"). It is linear, so that sums of vectors can be transformed like vectors.
    """

    version: int
    """Grows with every fit. 0: nothing was fitted yet."""
    items: int
    """Number of items that it was fitted to."""
    mean: npt.NDArray[np.float64]
    """Shape ``(dim,)``."""
    projection: npt.NDArray[np.float32]
    """Shape ``(dim, dims)``: principal directions, times their variance to the power ``-whitening / 2``."""
    idf: npt.NDArray[np.float32]
    """Weight (idf) of the lexical terms of each bucket; empty: not known."""
    categories: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """Weight of the categories of each bucket; empty: not known."""

    @property
    def dims(self) -> int:
        """Length of a transformed vector."""
        return int(self.projection.shape[1])

    def apply(
        self, sums: npt.NDArray[np.floating], weights: npt.NDArray[np.floating] | float = 1.0
    ) -> Matrix:
        """Transform sums of unit vectors, ``(n, dim)``, with the sums of their weights, to ``(n, dims)``.

        >>> fit(np.eye(3, dtype="f4"), version=1).apply(np.eye(3)[:1], 1.0).shape
        (1, 2)
        """
        centred = sums - np.multiply.outer(np.broadcast_to(weights, len(sums)), self.mean)
        moved: Matrix = centred.astype(np.float32) @ self.projection
        return moved

    def unit(self, vectors: npt.NDArray[np.floating]) -> Matrix:
        """Transform vectors, shape ``(n, dim)``, to unit rows; zeros (an unknown text) stay zeros."""
        moved = self.apply(vectors)
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        moved /= np.where(lengths > 1e-9, lengths, np.float32(1.0))
        moved[~vectors.any(axis=1)] = 0.0
        return moved

    def is_outgrown_by(self, items: int) -> bool:
        """Whether a catalogue of so many items needs a new fit.

        >>> fit(np.eye(4, dtype="f4"), version=1).is_outgrown_by(5)
        False
        >>> fit(np.eye(4, dtype="f4"), version=1).is_outgrown_by(6)
        True
        """
        return self.items < FREEZE_AT and items > REFIT_GROWTH * self.items

    def centring_only(self) -> TextTransform:
        """Give the same transform without projection."""
        return replace(self, projection=np.eye(len(self.mean), dtype=np.float32))

    def to_bytes(self) -> bytes:
        """Write the transform as it is stored."""
        return msgspec.msgpack.encode(
            [
                *(1, self.version, self.items, self.mean.tobytes(), self.dims, self.projection.tobytes()),
                self.idf.tobytes(),
                self.categories.tobytes(),
            ]
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> TextTransform:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: another version of recstream wrote it.
        """
        layout, version, items, mean, dims, projection, idf, *labels = msgspec.msgpack.decode(raw)
        if layout != 1:
            msg = f"the stored text transform has layout {layout}, wanted 1: run recstream catalogue fit"
            raise ValueError(msg)
        return cls(
            version,
            items,
            np.frombuffer(mean),
            np.frombuffer(projection, np.float32).reshape(-1, dims),
            np.frombuffer(idf, np.float32),
            np.frombuffer(labels[0] if labels else b"", np.float32),
        )


def plain(dim: int) -> TextTransform:
    """Give the transform that changes nothing: the encoder's own space."""
    return TextTransform(0, 0, np.zeros(dim), np.eye(dim, dtype=np.float32), np.zeros(0, np.float32))


def fit(
    vectors: Matrix,
    *,
    version: int,
    dims: int = DIMS,
    whitening: float = 0.0,
    idf: npt.NDArray[np.float32] | None = None,
    categories: npt.NDArray[np.float32] | None = None,
) -> TextTransform:
    """Fit a transform to the items' unit vectors, shape ``(n, dim)``. Rows of zeros are not counted.

    ``whitening`` is 0 (principal components as they are) to 1 (all of equal variance; Su et al. 2021,
    "Whitening Sentence Representations"). Directions without variance are dropped.

    Raises:
        ValueError: there is no vector, or ``whitening`` lies outside 0 to 1.
    """
    if not 0.0 <= whitening <= 1.0:
        msg = f"whitening is {whitening}: wanted 0 (none) to 1 (full)"
        raise ValueError(msg)
    known = vectors[vectors.any(axis=1)].astype(np.float64)
    if not len(known):
        msg = "no item has a text vector yet: load the catalogue first (recstream catalogue load)"
        raise ValueError(msg)
    mean = known.mean(axis=0)
    centred = known - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(known))
    kept = [k for k in np.argsort(-variances)[:dims].tolist() if variances[k] > 1e-9]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    projection = (directions * signs)[:, kept] * variances[kept] ** (-whitening / 2.0)
    if not kept:  # all texts are equal
        projection = np.eye(vectors.shape[1])[:, :dims]
    return TextTransform(
        version,
        len(known),
        mean,
        np.ascontiguousarray(projection, np.float32),
        np.zeros(0, np.float32) if idf is None else idf,
        np.zeros(0, np.float32) if categories is None else categories,
    )
