"""A store is not made by mistake: where the job has run before, or where another one is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from recstream.config import Settings
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.runtime.faults import exit_code
from recstream.runtime.new_store import check_new_store, check_place
from recstream.runtime.positions import LIVE, positions_dir
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring
from recstream.stores.base import StoreMismatchError
from recstream.testing.stores import item_row, user_row
from tests.support.commands import HASHING, recstream
from tests.support.topics import produce

Topics = Callable[..., str]
EVENT = {"user_id": "ann", "ts": 1, "action": "view", "item_id": "i1"}


@pytest.fixture
def settings(broker: EmbeddedBroker, topic: Topics, tmp_path: Path) -> Settings:
    """Of a job whose topics are new and whose store is not there."""
    kinds = ("events", "items", "lists", "dead_letter")
    chosen: dict[str, object] = {f"kafka.{kind}_topic": topic(kind, partitions=2) for kind in kinds}
    chosen |= {"kafka.bootstrap": broker.bootstrap, "kafka.group": chosen["kafka.events_topic"]}
    chosen |= {"store.path": str(tmp_path / "state"), "encoder.backend": "hashing", "encoder.dim": 8}
    return Settings.load(None, {}, chosen)


def commit(settings: Settings) -> None:
    """The job has shown a position to its consumer group."""
    kafka = settings.kafka
    job = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": kafka.group})
    job.commit(offsets=[TopicPartition(kafka.events_topic, 1, 7)], asynchronous=False)
    job.close()


def refused(settings: Settings) -> str:
    with pytest.raises(StoreMismatchError) as caught:
        check_new_store(settings, Stop())
    assert exit_code(caught.value) == 2
    return str(caught.value)


@pytest.mark.kafka
def test_a_new_store_is_fine_where_no_job_has_run(settings: Settings) -> None:
    produce(settings.kafka.bootstrap, settings.kafka.events_topic, [EVENT])
    check_new_store(settings, Stop())
    assert not settings.store_dir.exists(), "to look makes nothing"


@pytest.mark.kafka
def test_topics_that_lack_are_for_others_to_report(settings: Settings) -> None:
    gone = settings.kafka.model_copy(update={"events_topic": "no-such-1", "lists_topic": "no-such-2"})
    check_new_store(settings.model_copy(update={"kafka": gone}), Stop())


@pytest.mark.kafka
def test_a_new_store_is_refused_where_the_topic_of_lists_holds_any(settings: Settings) -> None:
    produce(settings.kafka.bootstrap, settings.kafka.lists_topic, [b"{}"])
    said = refused(settings)
    assert settings.kafka.lists_topic in said
    assert str(settings.store_dir) in said
    for way_out in ("--new-store", "store.path", "restore a copy", "another consumer group"):
        assert way_out in said
    assert not settings.store_dir.exists()


@pytest.mark.kafka
def test_a_new_store_is_refused_where_the_group_has_positions(settings: Settings) -> None:
    commit(settings)
    assert f"group {settings.kafka.group!r} has positions" in refused(settings)


@pytest.mark.kafka
def test_a_store_with_a_catalogue_alone_is_new_and_one_with_users_is_not(settings: Settings) -> None:
    commit(settings)
    database = Wiring(settings).database
    database.items.upsert([item_row("i1")])
    refused(settings)
    database.users.upsert([user_row("ann")])
    check_new_store(settings, Stop())


@pytest.mark.kafka
def test_a_store_on_which_the_job_has_begun_is_not_new(settings: Settings) -> None:
    """It was killed before anything was committed: the next start goes on."""
    commit(settings)
    positions_dir(settings.store_dir, LIVE)
    check_new_store(settings, Stop())


@pytest.mark.kafka
def test_run_says_where_the_store_is_and_refuses_before_it_makes_one(settings: Settings) -> None:
    produce(settings.kafka.bootstrap, settings.kafka.lists_topic, [b"{}"])
    environ = settings.environ_for_child()
    environ["RECSTREAM_STORE__PATH"] = "state"
    done = recstream("run", *HASHING, env=environ, cwd=settings.store_dir.parent)
    assert done.returncode == 2, done.stderr
    assert f"store {settings.store_dir}" in done.stderr
    assert "--new-store" in done.stderr
    assert not settings.store_dir.exists()


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a file in a folder of its own that names a relative store."""
    for name in ("etc", "work"):
        (tmp_path / name).mkdir()
    file = tmp_path / "etc" / "recstream.toml"
    file.write_text('[store]\npath = "state"\n[encoder]\nbackend = "hashing"\ndim = 8\n')
    monkeypatch.chdir(tmp_path / "work")
    return Settings.load(file, {})


def made(settings: Settings, folder: Path) -> None:
    """There is a store in a folder."""
    store = settings.store.model_copy(update={"path": str(folder)})
    Wiring(settings.model_copy(update={"store": store})).database  # noqa: B018 - opens it


def test_a_store_in_the_working_directory_that_the_file_no_longer_means_is_told(
    moved: Settings, tmp_path: Path
) -> None:
    made(moved, tmp_path / "work" / "state")
    with pytest.raises(StoreMismatchError) as caught:
        check_place(moved)
    assert str(tmp_path / "work" / "state") in str(caught.value)
    assert str(tmp_path / "etc" / "state") in str(caught.value)
    done = recstream(
        *("backfill", "--events", "none.jsonl", "-c", tmp_path / "etc" / "recstream.toml"),
        cwd=tmp_path / "work",
    )
    assert done.returncode == 2, done.stderr
    made(moved, tmp_path / "etc" / "state")
    check_place(moved)


def test_a_folder_of_that_name_that_is_no_store_is_no_matter(moved: Settings, tmp_path: Path) -> None:
    check_place(moved)
    (tmp_path / "work" / "state").write_text("a file")
    check_place(moved)
    (tmp_path / "work" / "state").unlink()
    (tmp_path / "work" / "state").mkdir()
    check_place(moved)
