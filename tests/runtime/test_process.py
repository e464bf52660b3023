"""One process of the live job."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import HASHING, environment, recstream

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


GIVING_UP = """
import sys, threading, time
from recstream.connectors.kafka.client import StayedAwayFault
from recstream.runtime import process

def main():
    threading.Thread(target=time.sleep, args=(600.0,)).start()  # as a client that is not free before
    print("as far as it came")
    try:
        raise {error}
    except Exception as error:
        raise RuntimeError("error in step") from error

process.main = main
sys.exit(process.run())
"""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        ("StayedAwayFault('no broker', 'start it')", 75, "error: no broker; start it\n"),
        ("ValueError('a mistake of ours')", 1, "ValueError: a mistake of ours"),
    ],
)
def test_what_ends_a_process_ends_it_at_once(error: str, code: int, says: str) -> None:
    """With its words and its exit code, whatever clients of a cluster that hangs are not free yet."""
    done = subprocess.run(
        [sys.executable, "-c", GIVING_UP.replace("{error}", error)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=40.0,
    )
    assert done.returncode == code
    assert says in done.stderr
    assert ("Traceback" in done.stderr) is (code == 1)
    assert done.stdout == "as far as it came\n"


def test_a_job_runs_no_code_of_the_folder_that_it_is_started_in(tmp_path: Path) -> None:
    """Neither another recstream nor what has the name of a module that it needs."""
    own = tmp_path / "recstream" / "runtime"
    own.mkdir(parents=True)
    for module in (own.parent / "__init__.py", own / "__init__.py", own / "process.py"):
        module.write_text("raise SystemExit('code of the folder')\n")
    for name in ("ctypes", "logging", "numpy", "orjson", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of the folder')\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = {"kafka.bootstrap": "127.0.0.1:1", "run.metrics_port": port, "store.path": "state"}
        words = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
        done = recstream("run", "--new-store", *words, *HASHING, cwd=tmp_path)
    assert "code of the folder" not in done.stderr
    assert f"{port}: " in done.stderr, "its process came as far as it can"
    assert done.returncode == 2
