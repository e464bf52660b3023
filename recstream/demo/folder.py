"""The demo's folder: what it keeps (films, vectors), and what each run makes anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recstream.config import Settings

__all__ = ["DemoFolder", "FolderError"]

_MARK: Final = "made-by-recstream-demo"


class FolderError(Exception):
    """The folder holds what is not the demo's."""


class DemoFolder:
    """Paths inside the demo's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.downloads = path / "downloads"
        self.cache = path / "cache"
        """Encoded texts; the only thing besides the films that a second run finds again."""
        self.state = path / "state"
        self.lists = path / "lists.jsonl"
        self.dead_letters = path / "dead-letters.jsonl"
        self.settings = path / "recstream.toml"
        self.job_log = path / "job.log"
        self.broker_log = path / "broker.log"

    def prepare(self, *, fresh: bool) -> None:
        """Make the folder ready; the last run's state goes, with ``fresh`` its encoded texts too.

        Raises:
            FolderError: a folder that another hand filled has something where the demo would empty it.
        """
        mark = self.path / _MARK
        run = [self.state, self.lists, self.dead_letters, self.settings, self.job_log, self.broker_log]
        if not mark.exists():
            there = [path.name for path in (*run, self.cache) if path.exists()]
            if there:
                msg = f"{self.path} has {', '.join(there)} that no demo made: give another folder with --data"
                raise FolderError(msg)
            self.path.mkdir(parents=True, exist_ok=True)
            mark.touch()
        for path in [*run, self.cache] if fresh else run:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.state.mkdir()

    def settings_for(self, bootstrap: str, metrics_port: int, *, wait_for_item_s: float) -> Settings:
        """The job's settings: all defaults but for where things are; written down for later commands."""
        settings = Settings.load(
            None,
            {},
            {
                "kafka.bootstrap": bootstrap,
                "kafka.poll_max": 250,  # small bites, so that the encoder's progress can be seen
                "store.path": str(self.state.resolve()),
                "cache.path": str(self.cache.resolve()),
                "events.wait_for_item_s": wait_for_item_s,
                "run.metrics_port": metrics_port,
            },
        )
        self.settings.write_text(settings.as_toml(), encoding="utf-8")
        return settings

    def keep(self, lists: Iterable[bytes], dead_letters: Iterable[bytes]) -> None:
        """Save what the broker would forget."""
        for path, records in ((self.lists, lists), (self.dead_letters, dead_letters)):
            path.write_bytes(b"".join(record + b"\n" for record in records))
