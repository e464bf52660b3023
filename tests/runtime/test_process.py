"""One process of the live job."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.commands import environment

COMPILING = """
import sys, time
from recstream.runtime import process, runner
runner._LONG_S = 0.0
runner.compile_kernels = lambda: time.sleep(60.0)
sys.exit(process.main())
"""


def test_a_stop_while_kernels_are_compiled_ends_the_process_at_once(tmp_path: Path) -> None:
    """As it does before anything is read; what takes so long is said."""
    settings = {
        "RECSTREAM_STORE__PATH": str(tmp_path),
        "RECSTREAM_ENCODER__BACKEND": "hashing",
        "RECSTREAM_RUN__METRICS_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", COMPILING], env=environment(settings), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert any("compiling the ranking kernels" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20.0) == 0
    process.stderr.close()
