"""The demo's folder: what is kept between runs (films, vectors), and what each run makes anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from recstream.config import Settings

if TYPE_CHECKING:
    from recstream.connectors import EmbeddedBroker

__all__ = ["DemoFolder", "FolderError"]

_MARK: Final = "made-by-recstream-demo"
"""File that marks a folder as the demo's, so that no other folder is ever emptied."""


class FolderError(Exception):
    """The folder contains files that the demo did not make and would delete."""


class DemoFolder:
    """Paths inside the demo's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.downloads = path / "downloads"
        self.cache = path / "cache"
        """Encoded texts, kept between runs as the films are."""
        self.state = path / "state"
        self.lists = path / "lists.jsonl"
        self.dead_letters = path / "dead-letters.jsonl"
        self.settings = path / "recstream.toml"
        self.job_log = path / "job.log"
        self.broker_log = path / "broker.log"

    def prepare(self, *, fresh: bool) -> None:
        """Delete what the last run left; with ``fresh`` also its encoded texts.

        Raises:
            FolderError: The folder is not marked as the demo's and has files that would be deleted.
        """
        mark = self.path / _MARK
        outputs = [self.state, self.lists, self.dead_letters, self.settings, self.job_log, self.broker_log]
        if not mark.exists():
            existing = [path.name for path in (*outputs, self.cache) if path.exists()]
            if existing:
                msg = f"{self.path} has {', '.join(existing)} that no demo made: name another one by --data"
                raise FolderError(msg)
            self.path.mkdir(parents=True, exist_ok=True)
            mark.touch()
        for path in [*outputs, self.cache] if fresh else outputs:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.state.mkdir()

    def settings_for(self, broker: EmbeddedBroker, metrics_port: int, *, wait_for_item_s: float) -> Settings:
        """Settings of the job, written to a file for later commands: defaults but for addresses and paths."""
        settings = Settings.load(
            None,
            {},
            {
                **broker.settings(poll_max=250),  # small batches, so that the encoder's progress is visible
                "store.path": str(self.state.resolve()),
                "cache.path": str(self.cache.resolve()),
                "events.wait_for_item_s": wait_for_item_s,
                "run.metrics_port": metrics_port,
            },
        )
        self.settings.write_text(settings.as_toml(), encoding="utf-8")
        return settings

    def keep(self, lists: Iterable[bytes], dead_letters: Iterable[bytes]) -> None:
        """Save lists and dead letters, which the broker loses when it stops."""
        for path, records in ((self.lists, lists), (self.dead_letters, dead_letters)):
            path.write_bytes(b"".join(record + b"\n" for record in records))
