"""The text transform: kept over restarts and shared by the workers of a job."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from recstream.items.catalogue import Catalogue
from recstream.items.text_transform import FREEZE_AT, TextTransform
from recstream.stores.base import ModelRow

__all__ = ["TRANSFORM", "TextTransformState"]

TRANSFORM: Final = "transform"
"""Name of the transform's row."""

_log = logging.getLogger(__name__)


class TextTransformState:
    """The transform of one worker's catalogue. A stored one is used; one fitted here is stored."""

    def __init__(self, catalogue: Catalogue, *, writes: bool) -> None:
        self._catalogue = catalogue
        self._writes = writes
        self._stored: TextTransform | None = None

    def start(self, rows: Mapping[str, ModelRow]) -> None:
        """Use the stored transform, unless the catalogue has outgrown it: then it fits its own."""
        row = rows.get(TRANSFORM)
        if row is None:
            return
        transform = TextTransform.from_bytes(row.state)
        self._stored = transform
        if not transform.is_outgrown_by(self._catalogue.known):
            self._catalogue.adopt(transform)

    def follow(self, rows: Mapping[str, ModelRow]) -> None:
        """Use a transform that another process has written since, if it is newer."""
        row = rows.get(TRANSFORM)
        if row is None:
            return
        transform = TextTransform.from_bytes(row.state)
        used = self._catalogue.transform
        is_final = not self._writes and transform.items >= FREEZE_AT
        if is_final or transform.version >= used.version:
            self._stored = transform
            self._catalogue.adopt(transform)
            if transform.version != used.version:
                _log.info(
                    "texts are compared by transform %d now, fitted to %d items",
                    transform.version,
                    transform.items,
                )

    def due(self) -> dict[str, bytes]:
        """Give the rows to be written now: none, or the transform that the catalogue has fitted itself."""
        used = self._catalogue.transform
        if not self._writes or used is self._stored or not used.version:
            return {}
        self._stored = used
        return {TRANSFORM: used.to_bytes()}
