"""Commands in processes that begin with their imports done, which take longer than most commands do.

A server imports what is slow to import and forks for each command. The fork is what the console script would
have been: a process of its own, with its own environment, folder, output and exit code. Only the seed of its
hashes is the server's; so there are two servers, which take turns, and no two commands in a row share a seed.

A server, its command and the command's children are one process group, which is killed when the command takes
too long or nobody waits for it any more. Servers end with the tests, however those end.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

IMPORTS: Final = ("lance_namespace", "scipy.linalg", "recstream.runtime.faults", "recstream.cli")
"""Not `lancedb` itself: it starts a thread, which a fork would lack."""
OWN: Final = ("RECSTREAM_", "PYTEST_", "LANCE_", "TMPDIR")
"""Beginnings of the variables that no import reads: each command has its own."""
SIZE: Final = 1 << 16
"""Bytes that a message has room for."""


def run(
    command: list[str], env: Mapping[str, str], cwd: Path, *, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run the console script to its end.

    Raises:
        subprocess.TimeoutExpired: It took too long, and was killed.
    """
    shared = {name: value for name, value in env.items() if not name.startswith(OWN)}
    while len(_idle) < 2:
        _idle.append(_ForkServer(shared))
    if _idle[0].env != shared:  # an import may have read what differs
        return subprocess.run(
            command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    server = _idle.pop(0)
    try:
        done = server.run(command, env, cwd, timeout_s)
    except BaseException:  # Ctrl-C and the time limit of a test, too
        server.kill()
        raise
    _idle.append(server)
    return done


class _ForkServer:
    """Runs one command at a time; of no more use after an exception."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )

    def run(
        self, command: list[str], env: Mapping[str, str], cwd: Path, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in env.items() if name.startswith(OWN)}
        request = orjson.dumps([command, own, str(cwd)])
        assert len(request) <= SIZE, f"a command of {len(request)} bytes, at most {SIZE}"
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            self._socket.settimeout(timeout_s)
            try:
                socket.send_fds(self._socket, [request], [out.fileno(), err.fileno()])
                answer = self._socket.recv(SIZE)
            except TimeoutError:
                raise subprocess.TimeoutExpired(command, timeout_s) from None
            assert answer, f"the server died while it ran {command}"
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, int(answer), out.read(), err.read())

    def kill(self) -> None:
        """End it, with what it runs."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()


_idle: Final[list[_ForkServer]] = []
"""The next one first."""


@atexit.register
def _end() -> None:
    while _idle:
        _idle.pop().kill()


def _serve(requests: socket.socket) -> bool:
    """Fork for each request; true in a fork, false in the server when nobody is left to ask."""
    sys.path[0] = str(Path(sys.executable).parent)  # as that of the console script
    for name in IMPORTS:
        importlib.import_module(name)
    assert "lancedb" not in sys.modules
    gc.freeze()  # or each fork would copy all that it looks through for garbage
    while True:
        request, files, _, _ = socket.recv_fds(requests, SIZE, 2)
        if not request:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of OpenBLAS, which knows of forks
            pid = os.fork()
        if pid == 0:
            requests.close()
            command, own, cwd = orjson.loads(request)
            _become(command, own, cwd, files)
            return True
        for file in files:
            os.close(file)
        end = os.pidfd_open(pid)
        ready, _, _ = select.select([requests.fileno(), end], [], [])
        if requests.fileno() in ready:  # only because nobody waits any more
            os.killpg(0, signal.SIGKILL)
        os.close(end)
        requests.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(command: list[str], own: dict[str, str], cwd: str, files: list[int]) -> None:
    """Make this process that of a command."""
    for standard, file in enumerate(files, 1):
        os.dup2(file, standard)
        os.close(file)
    os.environ.update(own)
    os.chdir(cwd)
    tempfile.tempdir = None  # an import may have asked for it
    sys.argv = command


if __name__ == "__main__" and _serve(socket.socket(fileno=int(sys.argv[1]))):
    from recstream.cli import main

    main()
