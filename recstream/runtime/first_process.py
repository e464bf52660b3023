"""Process 1 of a container, to which the kernel gives no signal without a handler, and leaves all orphans.

Importing this module makes SIGTERM end process 1, as it ends any other process, until somebody installs a
better handler. It is imported before all that takes long: a container that is stopped at once stops at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from types import FrameType
from typing import Final

__all__ = ["IS_FIRST", "bury_orphans"]

IS_FIRST: Final = os.getpid() == 1
"""Whether this process is the first of its container."""


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


if IS_FIRST:
    signal.signal(signal.SIGTERM, _end)


def bury_orphans(own: Collection[int]) -> None:
    """Let go of ended processes that process 1 inherited; ``own`` are those that somebody else waits for."""
    while IS_FIRST:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)
