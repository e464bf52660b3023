"""A command of one's own: the example of docs/extending.md; and what the fast commands do not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from recstream import cli
from recstream.cli import COMMANDS, add_command, app
from tests.support.commands import HASHING, environment, recstream
from tests.support.documents import snippets
from tests.support.logs import events, item, write_lines

FOLDER = Path(cli.__file__).parent
SHARED = {"__init__", "__main__", "options", "output", "progress"}
"""Modules of the folder that are no commands."""
HEAVY = {"numba", "torch", "lancedb", "bytewax", "pyarrow", "transformers", "confluent_kafka"}
"""Packages that take long to import."""


def test_the_example_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, row = snippets("extending.md", "A command")
    write_lines(tmp_path / "items.jsonl", [item(number) for number in range(9)])
    write_lines(tmp_path / "events.jsonl", events(30, users=4, items=9))
    files = ("--items", "items.jsonl", "--events", "events.jsonl", "--state", "state")
    done = recstream("backfill", *files, "--refresh", "end", *HASHING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    module = ModuleType("recstream.cli.users")
    exec(source, module.__dict__)  # noqa: S102 - our own page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(app, "registered_commands", [*app.registered_commands])
    for name in eval(f"({row})", {}):  # noqa: S307 - our own page
        add_command(name)
    shown = CliRunner().invoke(app, ["users", "--store", str(tmp_path / "state"), *HASHING])
    assert shown.output == f"4 users in {tmp_path / 'state'}\n"
    assert "Print how many users the store holds." in CliRunner().invoke(app, ["--help"]).output


def test_every_module_is_a_command_or_shared() -> None:
    assert sorted(COMMANDS) == sorted({path.stem for path in FOLDER.glob("*.py")} - SHARED)


@pytest.mark.parametrize("args", [("--help",), ("backfill", "--help"), ("schema",), ("config",)])
def test_commands_that_only_print_import_nothing_heavy(args: tuple[str, ...]) -> None:
    code = (
        "import sys; from recstream.cli import app\n"
        "try:\n    app()\n"
        "finally:\n    print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=environment(), capture_output=True, text=True, check=True
    )
    assert HEAVY & set(done.stderr.splitlines()) == set()
