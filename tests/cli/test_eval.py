"""``recstream eval`` by its command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from recstream.cli import app
from recstream.cli.eval import _points
from recstream.config import Settings
from recstream.ranking.signals.table import default_weights
from recstream.runtime.faults import known_fault
from tests.evaluation.logs import items_of, log_of, write
from tests.support.commands import recstream

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed on 3.10

ACTIONS = "ask = 1.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eval")
    write(path / "items.jsonl", items_of(40))
    write(path / "events.jsonl", log_of(240, seed=1))
    (path / "config.toml").write_text(f'[encoder]\nbackend = "hashing"\n[events.actions]\n{ACTIONS}\n')
    return path


def arguments(folder: Path) -> list[str]:
    files = (
        "--items",
        folder / "items.jsonl",
        "--events",
        folder / "events.jsonl",
        "-c",
        folder / "config.toml",
    )
    store = ("--set", f"store.path={folder / 'state'}")
    return ["eval", *map(str, files), *store, "--last-frac", "0.5", "--k", "5"]


@pytest.mark.parametrize("repeats", ["always", None])
def test_settings_to_write_are_those_of_the_grid_and_the_policy_they_were_found_with(
    tmp_path: Path, repeats: str | None
) -> None:
    named = {"ranking.top_n": 30, "ranking.repeats": repeats}
    grid = ["ranking.mmr=0.1", "ranking.weights.fresh=0.5", "profile.half_life_days=9"]
    ((evaluated, found),) = _points(grid, None, ["kafka.bootstrap=elsewhere:1"], named).values()
    assert (evaluated.ranking.top_n, evaluated.kafka.bootstrap) == (30, "elsewhere:1")
    (tmp_path / "best.toml").write_text(evaluated.as_toml(found))
    wanted: dict[str, Any] = {"mmr": 0.1, "weights": {"fresh": 0.5}}
    if repeats:
        wanted["repeats"] = repeats
    written = tomllib.loads((tmp_path / "best.toml").read_text())
    assert written == {"profile": {"half_life_days": 9.0}, "ranking": wanted}
    again = Settings.load(tmp_path / "best.toml", {}, {"ranking.top_n": 30, "kafka.bootstrap": "elsewhere:1"})
    assert again == evaluated


def test_an_experiment_prints_tables_and_writes_its_page_and_the_best_settings(folder: Path) -> None:
    done = recstream(
        *arguments(folder),
        *("--when", "both", "--against", "recent,sessionknn", "--jobs", "2"),
        *("--grid", "ranking.weights.followed=0.1,0.9", "--write-settings", "best.toml"),
        *("--report", "page.html"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    for word in ("recstream as emitted", "sessionknn", "grid, the best first"):
        assert word in done.stdout
    best = (folder / "best.toml").read_text()
    chosen = Settings.load(folder / "best.toml", {})
    value = chosen.ranking.weights["followed"]
    assert value in (0.1, 0.9)
    assert f"best of 2: ranking.weights.followed={value}" in best
    assert tomllib.loads(best) == {"ranking": {"weights": {"followed": value}}}
    lines = done.stdout.split("grid, the best first")[1].splitlines()[2:]
    assert lines[0].startswith(f"ranking.weights.followed={value}")
    best_ndcg, other_ndcg = (float(line.split()[-1]) for line in lines)
    assert best_ndcg > other_ndcg
    assert (folder / "page.html").read_text().startswith("<!doctype html>")
    # what is found does not depend on how many run at a time
    alone = CliRunner().invoke(app, [*arguments(folder), "--json", "--against", "recent"])
    assert alone.exit_code == 0, alone.output
    found = orjson.loads(alone.stdout)
    assert found["tests"] > 20
    assert found["model"]["examples"] > 20
    assert found["model"]["effects"].keys() == default_weights().keys()
    assert found["model"]["effects"] != default_weights()
    assert f"learned from {found['model']['examples']:,} choices; strongest effects: " in done.stdout
    for method in ("recstream", "recent"):
        assert f"{found['methods'][method]['ndcg@5']:.4f}" in done.stdout


def test_without_a_signal_it_is_run_again(folder: Path) -> None:
    kept = [
        word
        for name in default_weights()
        if name != "followed"
        for word in ("--set", f"ranking.weights.{name}=0")
    ]
    done = CliRunner().invoke(
        app, [*arguments(folder), *kept, "--ablate", "all", "--json", "--against", "none"]
    )
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert list(found["without"]) == ["followed"]
    assert found["without"]["followed"]["ndcg"] < 0.0
    assert list(found["model"]["effects"]) == ["followed"]  # signals that are not used are worth nothing


def test_a_log_that_is_not_in_order_of_time_is_told_and_can_be_sorted(folder: Path) -> None:
    log = log_of(240, seed=1)
    (folder / "by-user").mkdir()
    write(folder / "by-user" / "events.jsonl", sorted(log, key=lambda event: str(event["user_id"])))

    def evaluated(path: Path, *more: str) -> tuple[dict[str, Any], str]:
        args = [*arguments(folder), "--json", "--against", "recent", "--events", str(path), *more]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 0, done.output
        return orjson.loads(done.stdout), " ".join(done.stderr.split())

    in_order, told = evaluated(folder / "events.jsonl")
    assert "in order of time" not in told
    by_user, told = evaluated(folder / "by-user" / "events.jsonl")
    assert f"events.jsonl is not in order of time: {by_user['late']} of 240 events" in told
    assert "--sort" in told
    assert by_user["late"] > 120
    both = (evaluated(folder / part / "events.jsonl", "--sort") for part in ("", "by-user"))
    (once, told_once), (again, told_again) = both
    assert "in order of time" not in told_once + told_again
    assert once == in_order, "one in order stays as it is"
    assert again["tests"] > 0


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--against", "itemkn"), "wanted all, none, or names among"),
        (("--against", "owncounts"), "wanted all, none, or names among"),
        (("--when", "later"), "wanted request or emitted or both"),
        (("--last-frac", "0"), "wanted a share above 0"),
        (("--ablate", "txt"), "wanted all, groups, a group (text,"),
        (("--ablate", ","), "wanted a signal that is used"),
        (("--k", "0"), "wanted whole numbers from 1"),
        (("--top-n", "4"), "wanted at least the greatest of --k"),
        (("--write-settings", "w.toml"), "no winner without a grid"),
        (("--grid", "ranking.neighbors=1"), "ranking.neighbours"),
        (("--grid", "gone.toml"), "gone.toml"),
        (("--report", "nowhere/page.html"), "wanted a file in a folder that exists"),
        (("--items", "gone.jsonl"), "gone.jsonl"),
        (("--events", "kafka:events"), "write its records to a .jsonl file first"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(
    folder: Path, more: tuple[str, ...], word: str
) -> None:
    done = CliRunner().invoke(app, [*arguments(folder), *more])
    if done.exit_code == 1:  # `recstream.cli.main` says it
        assert done.exception is not None
        assert known_fault(done.exception) is done.exception
        assert word in str(done.exception)
    else:
        assert done.exit_code == 2
        assert word in " ".join(done.stderr.replace("│", " ").split())
    assert "events ..." not in done.stderr
