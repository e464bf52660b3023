"""What tests of more than one folder share: a real broker, fresh topics."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main
from hypothesis import settings

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker

_numbers = itertools.count()

LONGEST_FIRST = ("tests/recovery/", "tests/flows/", "tests/demo/", "tests/evaluation/", "tests/cli/")
"""Folders whose tests take longest: last in the order, one of them would keep all but one worker waiting."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of long tests first; the others follow in their usual order."""

    def place(item: pytest.Item) -> int:
        folders = (number for number, folder in enumerate(LONGEST_FIRST) if item.nodeid.startswith(folder))
        return next(folders, len(LONGEST_FIRST))

    items.sort(key=place)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the ranking kernels before the workers of pytest-xdist start, or each of them would.

    Compiled kernels stay on disk, so that this takes a second where nothing has changed.
    """
    if session.config.getoption("numprocesses", None):  # unset in the workers
        ready = "from recstream.ranking.recommender import warm_up; warm_up()"
        subprocess.run([sys.executable, "-c", ready], check=True, cwd=session.config.rootpath)


@pytest.hookimpl(trylast=True)  # hypothesis takes its profile from the command line in the same hook
def pytest_configure(config: pytest.Config) -> None:
    """`make test` tries half of the examples of `make test-full`, where a test does not say how many."""
    if config.option.markexpr == "not slow" and settings.get_current_profile_name() == "ci":
        settings.register_profile("short", settings.get_profile("ci"), max_examples=50)
        settings.load_profile("short")


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """One embedded broker for the whole test session; do not stop it."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def topic(broker: EmbeddedBroker) -> Callable[..., str]:
    """``topic("events", partitions=3)`` makes a topic nobody else has and gives its name."""

    def make(stem: str = "topic", *, partitions: int = 1) -> str:
        name = f"{stem}-{os.getpid()}-{next(_numbers)}"
        assert ensure_topics(broker.bootstrap, {name: partitions}) == [name]
        return name

    return make


@pytest.fixture
def run_flow() -> Callable[..., None]:
    """``run_flow(flow, workers=2, epoch=timedelta(0), store=tmp_path)`` runs it; makes the store if empty."""

    def run(
        flow: Dataflow, *, workers: int = 1, epoch: timedelta = timedelta(0), store: Path | None = None
    ) -> None:
        recovery = None
        if store is not None:
            if not any(store.iterdir()):
                init_db_dir(store, 2)
            recovery = RecoveryConfig(store)
        cluster_main(
            flow, [], 0, epoch_interval=epoch, recovery_config=recovery, worker_count_per_proc=workers
        )

    return run
