"""An action of one's own: the example of docs/extending.md, applied to a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from recstream.records.actions import DEFAULT_ACTIONS, TRAITS, Kind
from tests.support.documents import ROOT, snippets

DIFFS = snippets("extending.md", "An action", "diff")
(EXAMPLE,) = snippets("extending.md", "An action")


def with_diffs(folder: Path, diffs: list[str]) -> Path:
    """A copy of the package with the page's changes."""
    shutil.copytree(
        ROOT / "recstream", folder / "recstream", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    for diff in diffs:
        (_, header, *lines) = diff.splitlines()
        path = folder / header.removeprefix("+++ b/")
        before = "".join(line[1:] + "\n" for line in lines if line[0] in " -")
        after = "".join(line[1:] + "\n" for line in lines if line[0] in " +")
        source = path.read_text()
        assert source.count(before) == 1, f"{path.name} has other lines than the page:\n{before}"
        path.write_text(source.replace(before, after))
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the copy is imported."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_example_does_what_the_page_says(tmp_path: Path) -> None:
    done = run(with_diffs(tmp_path, DIFFS), "-c", EXAMPLE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("has_effect", [True, False])
def test_mypy_notices_a_kind_without_an_effect(tmp_path: Path, has_effect: bool) -> None:
    """Only the two modules are checked: what they import need not be."""
    diffs = [diff for diff in DIFFS if has_effect or "/users/state.py" not in diff]
    modules = ("recstream/records/actions.py", "recstream/users/state.py")
    options = ("--follow-imports=skip", "--config-file=", "--cache-dir=cache")
    checked = run(with_diffs(tmp_path, diffs), "-m", "mypy", *options, *modules)
    assert ('"assert_never" has incompatible type "Literal[\'own\']"' in checked.stdout) is not has_effect


def test_every_kind_has_its_traits_and_an_action() -> None:
    assert set(TRAITS) == set(get_args(Kind))
    assert {action.kind for action in DEFAULT_ACTIONS.values()} == set(TRAITS)
