"""Small disks for tests: they fill up, grow, and become read-only."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

__all__ = ["SmallDisk"]


class SmallDisk:
    """A tmpfs of its own at a folder, which is made; mounting it takes root."""

    def __init__(self, path: Path, size_kib: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk takes root")
        done = self._mount("-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs")
        if done.returncode != 0:
            pytest.skip(f"this machine mounts no disks: {done.stderr.strip()}")

    def fill(self) -> None:
        """Leave no room."""
        with open(self.path / "ballast", "ab", buffering=0) as file:
            for piece in (1 << 16, 1 << 12):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Take away what `fill` wrote."""
        (self.path / "ballast").unlink()

    def resize(self, size_kib: int) -> None:
        """A larger disk with the same files."""
        done = self._mount("-o", f"remount,size={size_kib}k")
        assert done.returncode == 0, done.stderr

    def read_only(self, *, on: bool) -> None:
        """Refuse every write. Nobody may have a file open for writing."""
        done = self._mount("-o", f"remount,{'ro' if on else 'rw'}")
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """Take it away; who still has files of it open keeps them until then."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def _mount(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["mount", *args, str(self.path)], capture_output=True, text=True, check=False)
