"""The console script as a process: its words, its environment, and its run to the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import fork_server

HASHING = ("--set", "encoder.backend=hashing")


def command(*args: str | Path) -> list[str]:
    """The console script of the environment that runs the tests."""
    return [str(Path(sys.executable).parent / "recstream"), *map(str, args)]


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment with no settings of recstream's but the given ones."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RECSTREAM_")}
    return {**plain, "COLUMNS": "200", **(settings or {})}


def recstream(
    *args: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return fork_server.run(command(*args), environment(env), cwd or Path.cwd(), timeout_s=120)
