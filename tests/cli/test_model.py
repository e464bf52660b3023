"""The model by its commands: shown, fitted while nobody waits, reset; and erased with its user."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from recstream.cli import app
from recstream.cli.options import load_settings
from recstream.dataflow.model_state.session_index import SESSIONS
from recstream.dataflow.worker import Worker
from recstream.ranking.signals.table import SIGNALS
from recstream.runtime.locks import StoreBusyError, job_lock
from recstream.runtime.wiring import Wiring
from recstream.stores.base import StoreError
from tests.support.commands import HASHING, recstream
from tests.support.logs import Record, events, item, write_lines


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that a backfill made."""
    folder = tmp_path_factory.mktemp("made")
    write_lines(folder / "items.jsonl", [item(number) for number in range(30)])
    write_lines(folder / "events.jsonl", events(150, users=5, items=30))
    done = recstream(
        *("backfill", "--items", "items.jsonl", "--events", "events.jsonl", "--refresh", "event"),
        *("--out", "lists.jsonl", "--state", "state", *HASHING),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def told(made: Path, *args: str, store: str = "state", fault: type[Exception] | None = None) -> str:
    """What a command says, run in this process: its output, or its fault."""
    done = CliRunner().invoke(app, [*args, "--store", str(made / store), *HASHING])
    if fault is not None:
        assert isinstance(done.exception, fault)
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def shown(made: Path) -> Record:
    found: Record = orjson.loads(told(made, "show", "--model", "--json"))
    return found


def test_the_model_is_shown_to_people_and_programs(made: Path) -> None:
    seen = shown(made)
    assert seen["examples"] > 20
    assert (seen["workers"], seen["learns"]) == (1, True)
    assert [one["signal"] for one in seen["signals"]] == list(SIGNALS)
    assert any(one["worth"] != one["start"] for one in seen["signals"])
    assert seen["transform"]["items"] == 30
    assert seen["sessions"] >= 5
    text = told(made, "show", "--model")
    assert f"learned from {seen['examples']} choices by 1 worker(s)" in text
    assert all(name in text for name in SIGNALS)
    assert "fitted on 30 items" in text
    assert f"sessions held: {seen['sessions']}" in text
    assert "repeats: " in text


@pytest.mark.parametrize("args", [(), ("u1", "--model")])
def test_show_wants_a_user_or_the_model(made: Path, args: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["show", *args, "--store", str(made / "state"), *HASHING])
    assert done.exit_code == 2
    assert "wanted a user id, or --model" in done.output


def test_a_fit_says_what_it_changed_and_the_next_job_uses_it(made: Path) -> None:
    before = shown(made)["transform"]
    with job_lock(made / "state", "run"):  # it waits for no job
        text = told(made, "catalogue", "fit", "--whitening", "0.5")
    assert f"before: transform {before['version']}, fitted on 30 items" in text
    assert f"now:    transform {before['version'] + 1}, fitted on 30 items" in text
    assert shown(made)["transform"]["version"] == before["version"] + 1
    wiring = wiring_of(made, "state")
    catalogue = Worker(wiring.services(), wiring.rules()).replica.catalogue
    assert catalogue.transform.version == before["version"] + 1


def wiring_of(made: Path, store: str, *, create: bool = False) -> Wiring:
    settings = load_settings(None, HASHING[1::2], {"store.path": str(made / store)})
    return Wiring(settings, create=create)


def test_a_fit_of_a_store_without_items_says_how_to_load_them(made: Path) -> None:
    assert wiring_of(made, "empty", create=True).database.items.count() == 0
    text = told(made, "catalogue", "fit", store="empty", fault=StoreError)
    assert "holds no items" in text
    assert "recstream catalogue load" in text


def test_somebody_erased_offline_leaves_no_sessions(made: Path) -> None:
    held = shown(made)["sessions"]
    assert "erased" in told(made, "forget", "u1", "--offline")
    assert shown(made)["sessions"] < held
    rows = wiring_of(made, "state").database.models.fetch()
    assert not any(b"u1" in row.state for name, row in rows.items() if name.startswith(SESSIONS))


def test_a_reset_says_what_it_removed_and_keeps_all_else(made: Path) -> None:
    before = shown(made)
    with job_lock(made / "state", "run"):
        assert "in use" in told(made, "model", "reset", fault=StoreBusyError)
    assert shown(made) == before
    text = told(made, "model", "reset")
    assert f"the weights of 1 worker(s), of {before['examples']} examples" in text
    after = shown(made)
    assert (after["examples"], after["workers"]) == (0, 0)
    assert all(one["worth"] == one["start"] for one in after["signals"])
    assert (after["sessions"], after["transform"]) == (before["sessions"], before["transform"])
    assert "nothing was learned yet" in told(made, "show", "--model")
    assert "nothing to do" in told(made, "model", "reset")
