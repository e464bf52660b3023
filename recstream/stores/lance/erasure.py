"""A note that users were erased whose bytes are still on the disk: a file, which outlives its process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

__all__ = ["ErasureNote"]

_DUE_AFTER_S: Final = 20.0
"""Seconds after which the bytes of erased users are removed: those erased meanwhile go with them. With the
run itself they are gone within a minute."""


class ErasureNote:
    """Says whether the bytes of erased users are still to be removed from a store.

    `write` it before an erasure commits and after: what a removal that runs meanwhile does not find is then
    left to the next one. `take` it before a removal begins, and `drop` it when that is done. A removal that
    is cut short is begun again.
    """

    def __init__(self, folder: Path) -> None:
        self._noted = folder / "erased"
        self._taken = folder / "erasing"

    def write(self) -> None:
        """Note that somebody is erased now; an older note stays as old as it is."""
        if not self._noted.exists():
            self._noted.touch()

    @property
    def is_written(self) -> bool:
        """Whether there is anything to remove."""
        return self._noted.exists() or self._taken.exists()

    @property
    def is_due(self) -> bool:
        """Whether to remove it now."""
        if self._taken.exists():
            return True
        try:
            age_s = time.time() - self._noted.stat().st_mtime
        except FileNotFoundError:
            return False
        return not 0.0 <= age_s < _DUE_AFTER_S  # below 0: the clock was set back

    def take(self) -> None:
        """Note that the removal has begun."""
        if self._noted.exists():
            self._noted.replace(self._taken)

    def drop(self) -> None:
        """Note that it is done."""
        self._taken.unlink(missing_ok=True)
