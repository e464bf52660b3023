"""The catalogue of one process: items by handle, with vectors, texts, words and categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from recstream.items import text_transform
from recstream.items.terms import BUCKETS, unpack
from recstream.items.text_transform import FREEZE_AT, REFIT_GROWTH, TextTransform
from recstream.items.tfidf_index import TfidfIndex
from recstream.records.arrays import Matrix, Vector

__all__ = ["Catalogue"]


class Catalogue:
    """Items by *handle*: the row of an item in this process, which never changes while the process lives.

    Handles differ from process to process: what leaves it (stores, lists) holds item ids.
    Texts are compared in the space of a `TextTransform`. That of a small catalogue only centres, and is
    fitted again as the catalogue grows. With 1,024 items it also projects, and is kept. Only
    `refresh_transform` fits: what reads the catalogue never changes it.

    >>> items = Catalogue(2)
    >>> items.put("a", np.array([1, 0], "f4")), items.put("b", np.array([0, 1], "f4"))
    (0, 1)
    >>> items.handle("b"), items.handle("zzz"), items.ids
    (1, None, ['a', 'b'])
    >>> items.refresh_transform()
    >>> items.text().astype("f8").round(3).tolist()
    [[0.707, -0.707], [-0.707, 0.707]]
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.version = 0
        """Version of the item table that this replica reflects."""
        self._handles: dict[str, int] = {}
        self._vectors = np.zeros((0, dim), np.float32)
        self._text = np.zeros((0, dim), np.float32)
        self._text_columns = np.zeros((dim, 0), np.float32)
        self._published = np.full(0, math.nan)
        self.lexicon = TfidfIndex(BUCKETS)
        """Words of the items: their lexical terms."""
        self.categories = TfidfIndex(BUCKETS, max_share=1.0)
        """Categories of the items, hashed."""
        self._available = np.zeros(0, np.bool_)
        self._known = np.zeros(0, np.bool_)
        self._tiebreak = np.zeros(0, np.float32)
        self._transform = text_transform.plain(dim)
        self._fit_at = 0
        self._filled = 0

    def __len__(self) -> int:
        return len(self.ids)

    def handle(self, item_id: str) -> int | None:
        """Handle of a *known* item: one whose record has arrived, even if it is not available now."""
        row = self._handles.get(item_id)
        return row if row is not None and self._known[row] else None

    def intern(self, item_id: str) -> int:
        """Handle of any item; one that is not known gets a handle that is never recommended.

        For states that name items which have left the catalogue since.
        """
        row = self._handles.get(item_id)
        if row is None:
            row = len(self.ids)
            self._handles[item_id] = row
            self.lexicon.reserve(row + 1)
            self.categories.reserve(row + 1)
            self.ids.append(item_id)
            self.titles.append("")
            if row >= len(self._known):
                self._grow(max(1024, 2 * row))
            # Items of which nothing is known are listed in the order of a hash, the same in every process.
            self._published[row] = math.nan
            self._tiebreak[row] = ((crc32(item_id.encode()) & 0xFFFFFF) + 1) / 0x1000000
        return row

    def put(
        self,
        item_id: str,
        vector: Vector,
        *,
        available: bool = True,
        title: str = "",
        categories: Sequence[str] = (),
        published_at: float | None = None,
        terms: bytes = b"",
    ) -> int:
        """Add an item, or replace it; gives its handle.

        ``terms`` are packed (`recstream.items.terms`), ``published_at`` is in Unix seconds.

        Raises:
            ValueError: ``vector`` is not of shape ``(dim,)``.
        """
        if vector.shape != (self.dim,):
            msg = f"item {item_id!r} has a vector of shape {vector.shape}, this catalogue ({self.dim},)"
            raise ValueError(msg)
        row = self.intern(item_id)
        self.titles[row] = title
        self._filled += not self._known[row]
        self._vectors[row] = vector
        self._known[row] = True
        self._available[row] = available
        self._published[row] = math.nan if published_at is None else published_at
        words = unpack(terms)
        self.lexicon.put(row, words.buckets.astype(np.int32), words.counts)
        labels = np.array(sorted({crc32(name.encode()) % BUCKETS for name in categories}), np.int32)
        self.categories.put(row, labels, np.ones(len(labels), np.float32))
        if self._is_outgrown:
            self._fit_at = 0  # all texts are transformed anew by the next `refresh_transform`
        else:
            (unit,) = self._transform.unit(self._vectors[row : row + 1])
            self._text[row] = self._text_columns[:, row] = unit
        return row

    def vector(self, handle: int) -> Vector:
        """Unit vector of an item, shape ``(dim,)``; zeros for one that is not known."""
        row: Vector = self._vectors[handle]
        return row

    def is_known(self, handle: int) -> bool:
        """Whether the item's record has arrived."""
        return bool(self._known[handle])

    @property
    def known(self) -> int:
        """Number of items whose record has arrived."""
        return self._filled

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Whether each item may be recommended, shape ``(n,)``."""
        return self._available[: len(self.ids)]

    @property
    def tiebreak(self) -> npt.NDArray[np.float32]:
        """Stable hash of each id, in (0, 1], shape ``(n,)``."""
        return self._tiebreak[: len(self.ids)]

    @property
    def published(self) -> npt.NDArray[np.float64]:
        """Time at which each item was published, Unix seconds, NaN if not known, shape ``(n,)``."""
        return self._published[: len(self.ids)]

    def refresh_transform(self) -> None:
        """Fit the transform to the items there are now, if none was fitted or the catalogue has outgrown it.

        Call it before texts are compared: items put since the catalogue outgrew its transform have no text
        until then. Loading a catalogue so costs one fit, not one for each quarter more items.
        """
        if self._fit_at or not self._vectors[: len(self.ids)].any():
            return
        transform = self.fitted()
        if self._filled < FREEZE_AT:  # too few to tell directions from chance
            transform = transform.centring_only()
        self.adopt(transform)
        self._fit_at = self._filled

    @property
    def transform(self) -> TextTransform:
        """The transform of `text`: the one last fitted or adopted."""
        return self._transform

    def text(self) -> Matrix:
        """Transformed unit vectors, shape ``(n, dims)``, a view: do not keep it across a ``put``."""
        return self._text[: len(self.ids)]

    def likeness(self, directions: Matrix, out: npt.NDArray[np.float32]) -> Matrix:
        """Cosines of directions, unit rows of the space of `text`, with every item: ``(directions, n)``.

        They are written into ``out``, float32 with room for as many. The texts are also kept as columns, for
        BLAS would bring them into that order with every call.
        """
        items = len(self.ids)
        products = out[: len(directions) * items].reshape(-1, items)
        return np.matmul(directions, self._text_columns[:, :items], out=products)

    def adopt(self, transform: TextTransform) -> None:
        """Use a transform that was fitted elsewhere, or in an earlier run.

        Raises:
            ValueError: it is for vectors of another length.
        """
        if len(transform.mean) != self.dim:
            msg = f"the text transform is for vectors of {len(transform.mean)} numbers, these have {self.dim}"
            raise ValueError(msg)
        self._transform = transform
        self._fit_at = max(transform.items, 1)
        if len(transform.idf):
            self.lexicon.weigh(transform.idf)
        self.categories.weigh(transform.categories if len(transform.categories) else None)
        self._text = np.zeros((len(self._known), transform.dims), np.float32)
        self._text[: len(self.ids)] = transform.unit(self._vectors[: len(self.ids)])
        self._text_columns = np.ascontiguousarray(self._text.T)

    def fitted(self, *, whitening: float = 0.0) -> TextTransform:
        """Fit a transform to the items there are now; it is newer than the one in use.

        Raises:
            ValueError: there are no items, or ``whitening`` is not between 0 and 1.
        """
        return text_transform.fit(
            self._vectors[: len(self.ids)],
            version=max(self._filled, self._transform.version + 1),
            dims=min(text_transform.DIMS, self.dim),
            whitening=whitening,
            idf=self.lexicon.fitted_idf(),
            categories=self.categories.fitted_idf(),
        )

    @property
    def _is_outgrown(self) -> bool:
        return self._fit_at < FREEZE_AT and self._filled > REFIT_GROWTH * self._fit_at

    def _grow(self, rows: int) -> None:
        for name in ("_vectors", "_text", "_available", "_known", "_tiebreak", "_published"):
            old = getattr(self, name)
            new = np.zeros((rows, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        self._text_columns = np.ascontiguousarray(self._text.T)
