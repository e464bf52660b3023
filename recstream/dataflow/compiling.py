"""The compiled loops, made ready by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path

from recstream.items import jit as loops
from recstream.ranking.recommender import warm_up

__all__ = ["make_ready"]


def make_ready() -> None:
    """Compile the loops that lists are made by, or load what another process has compiled.

    The first start after an install compiles for half a minute. Processes that start together do not do so at
    once: what numba keeps on disk is numbered by a file that each of them would write over the other's.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # where files cannot be locked, as before
            file = held.enter_context(Path(loops.__file__).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX)
        warm_up()
