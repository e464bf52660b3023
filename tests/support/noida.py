"""noida-db: a second server of Kafka's protocol, so that nothing rests on the habits of one broker."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from recstream.connectors.kafka.admin import list_topics
from recstream.connectors.kafka.client import KafkaFault
from tests.support.ports import free_port

_START_S = 20.0


@contextmanager
def noida_db() -> Iterator[str]:
    """Run it; gives its address.

    Raises:
        RuntimeError: it does not answer.
    """
    folder, port = tempfile.mkdtemp(prefix="noida-db-"), free_port()
    start = "from noida_db.cli import main; main()"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            start,
            "start",
            "--only",
            "kafka",
            "--kafka-port",
            str(port),
            "--data-dir",
            folder,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    bootstrap, deadline = f"127.0.0.1:{port}", time.monotonic() + _START_S
    try:
        while True:
            try:
                list_topics(bootstrap, timeout_s=1.0)
                break
            except KafkaFault as fault:
                if time.monotonic() > deadline or process.poll() is not None:
                    msg = f"noida-db did not start: {fault}"
                    raise RuntimeError(msg) from fault
                time.sleep(0.1)
        yield bootstrap
    finally:
        down = [sys.executable, "-c", start, "down", "--data-dir", folder]
        subprocess.run(down, check=False, capture_output=True, timeout=20)
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
