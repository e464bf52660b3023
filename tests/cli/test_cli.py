"""The command line as an operator meets it: help, contracts, settings, inspection, and clear faults."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import jsonschema
import orjson
import pytest
import typer.main
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.core import TyperGroup
from typer.testing import CliRunner

from recstream.cli import app
from recstream.config import Settings
from tests.support import fork_server
from tests.support.commands import HASHING, command, environment, recstream
from tests.support.live_jobs import wait_until
from tests.support.logs import Record, events, item, read_lines, write_lines

HELP = {
    "demo": ("--events", "--rate", "--user", "--data", "--fresh", "--keep-alive", "--plain"),
    "run": (
        *("--config", "--processes", "--store", "--new-store", "--set"),
        *("Exit codes: 0 stopped", "4 the reject limit"),
    ),
    "backfill": (
        *("--events", "--items", "--out", "--refresh", "--state", "--limit", "--max-rejects", "--set"),
        *("--verify", "Exit codes: 0 done", "5 --verify", "deadletter replay", "kafka:NAME"),
    ),
    "eval": (
        "--events",
        "--items",
        "--against",
        "--grid",
        "--sort",
        "--report",
        "Exit codes: 0 done",
        "4 the reject limit",
    ),
    "catalogue": ("load", "fit"),
    "catalogue fit": ("--whitening", "--store", "within seconds"),
    "catalogue load": ("--replace", "--force", "--store", "--set"),
    "deadletter": ("list", "replay"),
    "deadletter list": ("--reason", "--limit", "--json", "--set"),
    "deadletter replay": ("--reason", "--to", "--stream", "--dry-run", "events.dedup"),
    "tail": ("--user", "--file", "--from-start", "--json", "--store"),
    "show": ("--model", "--search", "--json", "--store"),
    "model": ("reset",),
    "model reset": ("--store", "No job may be running"),
    "forget": ("--offline", "--purge-dead-letters", "--store", "Exit codes: 0 done"),
    "doctor": ("--config", "--store"),
    "topics": ("create",),
    "topics create": ("--partitions", "--replication", "--dry-run"),
    "positions": ("--to", "--topic", "--json", "--dry-run"),
    "upgrade": ("--state", "--accept-rules", "--dry-run", "Exit codes: 0 done"),
    "schema": ("recommendation", "session"),
    "config": ("--env", "--set"),
}
"""Each command and what its help names."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and lists that a backfill made."""
    folder = tmp_path_factory.mktemp("made")
    write_lines(folder / "items.jsonl", [item(number) for number in range(30)])
    write_lines(folder / "events.jsonl", events(60, users=5, items=30))
    done = recstream(
        *("backfill", "--items", "items.jsonl", "--events", "events.jsonl", "--out", "lists.jsonl"),
        *("--refresh", "event", "--state", "state", *HASHING),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def fails(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """The command failed with this code, said this on stderr, and showed no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("name", HELP)
def test_help_names_every_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0, shown.output
    told = " ".join(shown.output.replace("│", " ").split())
    for word in HELP[name]:
        assert word in told


@pytest.mark.parametrize("name", ["", *HELP])
def test_help_is_asked_for_in_one_letter_too(name: str) -> None:
    said = [CliRunner().invoke(app, [*name.split(), word]).output for word in ("-h", "--help")]
    assert said[0] == said[1]
    assert "Usage: " in said[0]


def test_the_version_is_told() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"recstream {version('recstream')}\n")


@pytest.mark.parametrize("args", [("backfill", "--events", "log.jsonl"), ("catalogue", "load", "log.jsonl")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_before_anything_is_read_it_exits_with_130(
    tmp_path: Path, args: tuple[str, ...], number: signal.Signals
) -> None:
    log = tmp_path / "log.jsonl"
    os.mkfifo(log)
    with subprocess.Popen(
        command(*args, "--state", "state", *HASHING), cwd=tmp_path, env=environment()
    ) as process:
        writing = os.open(log, os.O_WRONLY)  # returns once it is opened for reading, too
        process.send_signal(number)
        assert process.wait(30) == 130
        os.close(writing)


@pytest.mark.slow
def test_an_interrupted_load_exits_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_lines(tmp_path / "items.jsonl", [item(number) for number in range(40_000)])
    load = command("catalogue", "load", "items.jsonl", "--state", "state", *HASHING)
    with subprocess.Popen(
        load, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        state = tmp_path / "state"
        wait_until(lambda: any(state.glob("items.lance/data/*")), "items")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130, said
    assert "interrupted: all that was read is stored; the same command goes on from here" in said


@pytest.mark.slow
def test_a_command_that_does_not_end_is_killed_and_the_next_ones_run(tmp_path: Path) -> None:
    """By the tests' own way to run commands, without which a fault would show as a test that hangs."""
    log = tmp_path / "log.jsonl"
    os.mkfifo(log)
    assert recstream("schema").returncode == 0
    waits = command("backfill", "--events", log, "--state", tmp_path / "state", *HASHING)
    with pytest.raises(subprocess.TimeoutExpired):
        fork_server.run(waits, environment(), tmp_path, timeout_s=10)
    with pytest.raises(OSError, match="No such device"):  # nobody reads it
        os.open(log, os.O_WRONLY | os.O_NONBLOCK)
    assert [recstream("schema").returncode for _ in range(3)] == [0, 0, 0]


def test_no_command_is_left_out() -> None:
    def names(group: TyperGroup, before: str = "") -> set[str]:
        found = set()
        for name, one in group.commands.items():
            found |= {before + name, *(names(one, f"{name} ") if isinstance(one, TyperGroup) else ())}
        return found

    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    assert names(root) == set(HELP)


def test_the_console_script_lists_the_commands() -> None:
    done = subprocess.run(
        command("--help"), env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in HELP:
        assert name.split()[0] in done.stdout


def test_published_schemas_accept_what_is_emitted(made: Path) -> None:
    done = recstream("schema")
    assert done.returncode == 0
    schemas = orjson.loads(done.stdout)
    assert sorted(schemas) == ["event", "item", "recommendation", "reject", "session"]
    for schema in schemas.values():
        jsonschema.validators.validator_for(schema).check_schema(schema)
    for name, file in (("recommendation", "lists"), ("event", "events"), ("item", "items")):
        for record in read_lines(made / f"{file}.jsonl"):
            jsonschema.validate(record, schemas[name])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"user_id": "u"}, schemas["recommendation"])


def test_the_printed_settings_load_again(tmp_path: Path) -> None:
    chosen = ("ranking.top_n=7", "events.actions.like=2.5", f"store.path={tmp_path / 'state'}")
    done = recstream("config", *(word for one in chosen for word in ("--set", one)))
    assert done.returncode == 0, done.stderr
    file = tmp_path / "recstream.toml"
    file.write_text(done.stdout)
    again = Settings.load(file, {})
    assert (again.ranking.top_n, again.events.actions) == (7, {"like": 2.5})
    assert recstream("config", "-c", file).stdout == done.stdout
    printed = recstream("config", "-c", file, "--env")
    environ = dict(line.split("=", 1) for line in printed.stdout.splitlines())
    assert Settings.load(None, environ) == again


def test_show_tells_a_user_and_their_list(made: Path) -> None:
    done = recstream("show", "u1", "--store", "state", *HASHING, cwd=made)
    assert done.returncode == 0, done.stderr
    assert "user u1: " in done.stdout
    assert "list:" in done.stdout
    shown = recstream(
        "show", "u1", "--json", "--search", "zebra jazz", "--store", "state", *HASHING, cwd=made
    )
    seen: Record = orjson.loads(shown.stdout)
    last = [one for one in read_lines(made / "lists.jsonl") if one["user_id"] == "u1"][-1]
    assert seen["version"] == last["version"] == seen["list"]["version"]
    assert seen["after_search"]["version"] == seen["version"] + 1
    again = recstream("show", "u1", "--json", "--store", "state", *HASHING, cwd=made)
    assert orjson.loads(again.stdout)["version"] == seen["version"], "a look changes nothing"
    nobody = recstream("show", "nobody", "--store", "state", *HASHING, cwd=made)
    fails(nobody, 1, "user 'nobody' is not in state", "1 s after it was read, at the latest")


def test_tail_reads_lists_from_a_file(made: Path) -> None:
    lists = read_lines(made / "lists.jsonl")
    own = [one for one in lists if one["user_id"] == "u2"]
    done = recstream("tail", "--file", "lists.jsonl", "--user", "u2", "--json", cwd=made)
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == own
    told = recstream("tail", "--file", "lists.jsonl", "-n", "3", cwd=made)
    assert told.stdout.count("user u") == 3
    fails(
        recstream("tail", "--file", "lists.jsonl", "--user", "nobody", cwd=made),
        1,
        "no list of user 'nobody'",
    )


def test_tail_shows_titles_and_times(made: Path) -> None:
    """The titles of the store that is named; without one, ids, and why."""
    last = [one for one in read_lines(made / "lists.jsonl") if one["user_id"] == "u2"][-1]
    told = recstream("tail", "--file", "lists.jsonl", "--user", "u2", "--store", "state", cwd=made)
    assert told.stderr == ""
    assert (
        f"{datetime.fromtimestamp(int(last['generated_at']), timezone.utc)}".removesuffix("+00:00")
        in told.stdout
    )
    titles = {one["item_id"]: one["title"] for one in read_lines(made / "items.jsonl")}
    shown = told.stdout.rpartition("user u2")[2]
    for one in last["items"][:5]:
        assert titles[one["item_id"]] in shown
    bare = recstream("tail", "--file", "lists.jsonl", "--user", "u2", "--store", "elsewhere", cwd=made)
    assert bare.returncode == 0
    assert last["items"][0]["item_id"] in bare.stdout
    assert bare.stderr == "items are shown by their ids: elsewhere does not exist (--store names another)\n"
    assert not (made / "elsewhere").exists()


A_LIST: Record = {
    "user_id": "zoë",
    "version": 1,
    "generated_at": 1.7e9,
    "as_of": {"ts": 1.0, "partition": "[e]", "offset": 1},
    "trigger": "event",
    "items": [{"item_id": "東京", "rank": 1, "score": 1, "signals": {"fresh": 1.0}, "because": ["é"]}],
    "model": {"encoder": "e", "catalogue": 1},
    "of a later release": None,
}
"""With letters that not every terminal has."""


@given(
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(A_LIST)), inner)
            ),
        ).map(orjson.dumps),
        st.tuples(st.sampled_from(sorted(A_LIST)), st.sampled_from([None, [], {}, "x", -1, [{}]])).map(
            lambda change: orjson.dumps(A_LIST | dict([change]))
        ),
        st.integers(0, 300).map(lambda cut: orjson.dumps(A_LIST)[:cut]),
    ).map(lambda raw: raw.replace(b"\n", b" ").replace(b"\r", b" "))
)
@settings(max_examples=60, deadline=None)
def test_what_is_no_list_is_one_line_and_the_lists_beside_it_are_printed(
    tmp_path_factory: pytest.TempPathFactory, foreign: bytes
) -> None:
    file = tmp_path_factory.mktemp("lists") / "lists.jsonl"
    file.write_bytes(b"\n".join([orjson.dumps(A_LIST), foreign, orjson.dumps(A_LIST)]))
    for words in ((), ("--user", "zoë"), ("--json",)):
        done = CliRunner().invoke(
            app, ["tail", "--file", str(file), "--store", str(file.parent / "none"), *words]
        )
        assert done.exit_code == 0, done.output
        assert done.stdout.count("zoë") in (2, 3), "the odd one may be a list yet"
        told = [line for line in done.stderr.splitlines() if "is no list" in line]
        assert len(told) <= 1
        if foreign.strip() and not words:
            assert bool(told) == (done.stdout.count("user ") == 2)
            assert all(
                "wanted a record as `recstream schema recommendation` describes" in one for one in told
            )


@pytest.mark.parametrize(
    "args", [("tail", "--file", "lists.jsonl"), ("tail", "--file", "lists.jsonl", "--json")]
)
def test_a_terminal_that_lacks_a_letter_shows_its_number(tmp_path: Path, args: tuple[str, ...]) -> None:
    write_lines(tmp_path / "lists.jsonl", [A_LIST])
    env = {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command(*args), env=environment(env), cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if "--json" in args:
        assert orjson.loads(done.stdout) == A_LIST, "JSON is UTF-8 wherever it goes"
    else:
        assert b"zo\\xeb" in done.stdout
        assert b"\\u6771" in done.stdout


def test_tail_says_who_was_erased(tmp_path: Path) -> None:
    """A line of a file that deletes a list is told as a tombstone of a topic is."""
    write_lines(tmp_path / "lists.jsonl", [A_LIST, {"user_id": "ann", "deleted": True}])
    words = ["tail", "--file", str(tmp_path / "lists.jsonl"), "--user", "ann"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout.count("user ")) == (0, 1)
    assert "user ann  erased: their list is dropped" in done.stdout
    raw = CliRunner().invoke(app, [*words, "--json"])
    assert orjson.loads(raw.stdout) == {"user_id": "ann", "deleted": True}


def test_forget_offline_erases_once(made: Path) -> None:
    rejected = {"reason": "bad_value", "raw": '{"user_id": "u4", "ts": "x"}'}
    write_lines(made / "state" / "dead-letter.jsonl", [rejected])
    done = recstream("forget", "u4", "--offline", "--store", "state", *HASHING, cwd=made)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("user 'u4' erased\n")
    for told in ("dead-letter.jsonl holds 1 ", "--purge-dead-letters", "recommendations", "no tombstone"):
        assert told in done.stdout
    purged = recstream(
        *("forget", "u4", "--offline", "--purge-dead-letters", "--store", "state", *HASHING), cwd=made
    )
    assert (purged.returncode, "1 rejected records of theirs purged" in purged.stdout) == (0, True)
    again = recstream("forget", "u4", "--offline", "--store", "state", *HASHING, cwd=made)
    assert again.returncode == 1
    fails(recstream("show", "u4", "--store", "state", *HASHING, cwd=made), 1, "is not in")


def test_a_misspelt_setting_exits_2_and_names_the_closest(tmp_path: Path) -> None:
    fails(recstream("config", "--set", "ranking.topn=3"), 2, "ranking.topn", "top_n")
    fails(recstream("config", env={"RECSTREAM_RANKING__TOPN": "3"}), 2, "RECSTREAM_RANKING__TOPN", "TOP_N")
    file = tmp_path / "bad.toml"
    file.write_text('[kafka]\nbootstrp = "x:1"\n[run]\nepoch_s = 0\n')
    fails(recstream("config", "-c", file), 2, "bootstrp", "bootstrap", "epoch_s")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("backfill", "--events", "no-such.jsonl"), "no-such.jsonl"),
        pytest.param(
            ("backfill", "--events", "kafka:events", "--set", "kafka.bootstrap=127.0.0.1:1"),
            "127.0.0.1:1",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("run", "--set", "kafka.bootstrap=127.0.0.1:1", "--set", "run.restarts=0"),
            "127.0.0.1:1",
            marks=pytest.mark.slow,
        ),
        pytest.param(("tail", "--set", "kafka.bootstrap=127.0.0.1:1"), "127.0.0.1:1", marks=pytest.mark.slow),
        (("tail", "--file", "no-such.jsonl"), "no-such.jsonl"),
        (("catalogue", "load", "no-such.jsonl"), "no-such.jsonl"),
    ],
    ids=["events", "broker", "run", "tail", "tail-file", "items"],
)
def test_a_broken_set_up_is_one_clear_message(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    hashing = () if "--file" in args else HASHING
    done = recstream(*args, *hashing, env={"RECSTREAM_RUN__METRICS_PORT": "0"}, cwd=tmp_path)
    fails(done, 1, "error: ", said)


def test_a_store_made_with_another_encoder_is_refused_with_a_mend(made: Path) -> None:
    other = ("--set", "encoder.backend=hashing", "--set", "encoder.dim=64")
    for args in (("show", "u1"), ("backfill", "--events", "events.jsonl")):
        done = recstream(*args, "--store", "state", *other, cwd=made)
        fails(done, 2, "error: store ", "encoder", "To mend it")


def test_every_file_that_is_given_is_read(tmp_path: Path) -> None:
    """As a shell gives them for a pattern; the last one alone was, of an option that is repeated."""
    both = [write_lines(tmp_path / f"{number}.jsonl", [item(number)]) for number in (1, 2)]
    done = recstream("catalogue", "load", *both, "--state", tmp_path / "s", *HASHING)
    assert done.returncode == 0, done.stderr
    assert "2 read" in done.stderr
    gone = [
        "--events",
        str(tmp_path / "gone.jsonl"),
        "--events",
        str(both[0]),
        "--state",
        str(tmp_path / "t"),
    ]
    done = recstream("backfill", *gone, *HASHING)
    assert done.returncode == 1
    assert "gone.jsonl" in done.stderr
