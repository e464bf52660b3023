"""The supervisor of a job's processes."""

from __future__ import annotations

import subprocess

from recstream.config.settings import Settings
from recstream.runtime.signals import Stop
from recstream.runtime.supervisor import Supervisor


def test_the_process_to_blame_may_be_the_last_to_end() -> None:
    supervisor = Supervisor(Settings.load(None, {}), Stop(), {})
    ends = ("exit 1", "sleep 0.7; exit 4")
    supervisor._children = [subprocess.Popen(["sh", "-c", end]) for end in ends]
    assert supervisor._last_words() == [1, 4]
