"""The transform that texts are compared by, kept over restarts and shared by the workers of a job."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from recstream.items.catalogue import Catalogue
from recstream.items.text_transform import FREEZE_AT, TextTransform
from recstream.stores.base import ModelRow

__all__ = ["TRANSFORM", "TextTransformState"]

TRANSFORM: Final = "transform"
"""Name of its row."""

_log = logging.getLogger(__name__)


class TextTransformState:
    """The transform of one worker's catalogue: the stored one is used, and one it fitted itself is stored."""

    def __init__(self, catalogue: Catalogue, *, writes: bool) -> None:
        self._catalogue = catalogue
        self._writes = writes
        self._used: TextTransform | None = None
        self._stored: TextTransform | None = None

    @property
    def version(self) -> int:
        """Of the stored transform; 0: there is none."""
        return 0 if self._stored is None else self._stored.version

    def start(self, rows: Mapping[str, ModelRow]) -> None:
        """Use the stored one, unless a small catalogue has outgrown it: then the catalogue fits its own."""
        row = rows.get(TRANSFORM)
        if row is None:
            return
        transform = TextTransform.from_bytes(row.state)
        self._stored = transform
        if not transform.is_outgrown_by(self._catalogue.known):
            self._use(transform)

    def follow(self, rows: Mapping[str, ModelRow]) -> None:
        """Use one that another process has written since, if it is the newer one."""
        row = rows.get(TRANSFORM)
        if row is None:
            return
        transform = TextTransform.from_bytes(row.state)
        is_final = not self._writes and transform.items >= FREEZE_AT
        if self._used is None or is_final or transform.version >= self._used.version:
            is_new = self._used is None or transform.version != self._used.version
            self._stored = transform
            self._use(transform)
            if is_new:
                _log.info(
                    "texts are compared by transform %d now, fitted to %d items",
                    transform.version,
                    transform.items,
                )

    def note(self) -> None:
        """Note that lists were made: the catalogue's transform is the one they were made by."""
        self._used = self._catalogue.transform

    def due(self) -> dict[str, bytes]:
        """What is to be written now: nothing, or a transform that the catalogue fitted itself."""
        used = self._used
        if not self._writes or used is None or used is self._stored or not used.version:
            return {}
        self._stored = used
        return {TRANSFORM: used.to_bytes()}

    def _use(self, transform: TextTransform) -> None:
        self._catalogue.adopt(transform)
        self._used = transform
