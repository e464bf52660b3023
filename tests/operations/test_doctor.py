"""The doctor names each thing that is wrong with a set-up, and its mend."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, run_main

from recstream.config import Settings
from recstream.connectors.kafka import diagnosis
from recstream.connectors.kafka.admin import ensure_topics, topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.encoders import open_encoder
from recstream.metrics.prometheus import PrometheusMeters
from recstream.operations.doctor import Finding, diagnose
from recstream.runtime.locks import job_lock
from recstream.runtime.positions import LIVE, positions_dir
from recstream.runtime.wiring import encoder_spec, store_meta
from recstream.stores.base import StoreMeta
from tests.recovery.kafka_proxy import KafkaProxy
from tests.support.stores import open_lance
from tests.support.topics import produce

Ask = Callable[..., dict[str, Finding]]


@pytest.fixture
def base(tmp_path: Path) -> dict[str, object]:
    """A set-up in which all but the broker is well."""
    return {
        "kafka.bootstrap": "127.0.0.1:1",
        "store.path": str(tmp_path / "state"),
        "encoder.backend": "hashing",
        "run.metrics_port": 0,
    }


@pytest.fixture
def ask(base: dict[str, object]) -> Ask:
    def look(environ: dict[str, str] | None = None, **changes: object) -> dict[str, Finding]:
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        found = diagnose(lambda: Settings.load(None, environ or {}, {**base, **dotted}), timeout_s=0.3)
        assert all(bool(finding.mend) == (not finding.ok or finding.is_warning) for finding in found)
        return {finding.name: finding for finding in found}

    return look


def bad(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if not finding.ok}


def made(path: Path, **changes: Any) -> StoreMeta:
    """A store as these settings would make it, but for the changes."""
    settings = Settings.load(None, {}, {"encoder.backend": "hashing", "store.path": str(path)})
    meta = store_meta(settings, open_encoder(encoder_spec(settings)))._replace(**changes)
    open_lance(path, meta)
    return meta


def store_positions(store: Path, positions: dict[str, tuple[str, int]]) -> None:
    """Leave positions of events, by partition, as a job that has run would."""
    df = Dataflow(LIVE)
    op.output("out", op.input("events", df, Standing(positions)), TestingSink([]))
    run_main(df, recovery_config=RecoveryConfig(str(positions_dir(store, LIVE))))


class Standing(FixedPartitionedSource[int, dict[str, object]]):
    """Reads nothing, and has positions all the same."""

    def __init__(self, positions: dict[str, tuple[str, int]]) -> None:
        self._positions = positions

    def list_parts(self) -> list[str]:
        return list(self._positions)

    def build_part(self, step_id: str, for_part: str, resume_state: object) -> StandingPartition:
        return StandingPartition(*self._positions[for_part])


class StandingPartition(StatefulSourcePartition[int, dict[str, object]]):
    def __init__(self, identity: str, offset: int) -> None:
        self._position: dict[str, object] = {"identity": identity, "offset": offset, "from_ms": None}

    def next_batch(self) -> list[int]:
        raise StopIteration

    def snapshot(self) -> dict[str, object]:
        return self._position


def test_without_a_broker_the_other_checks_still_run(ask: Ask) -> None:
    found = ask()
    assert bad(found) == {"broker"}
    assert "127.0.0.1:1" in found["broker"].detail
    assert "kafka.bootstrap" in found["broker"].mend
    assert {"model", "encode", "store", "store contents", "cache", "disk", "metrics port"} <= found.keys()


def test_client_settings_that_librdkafka_does_not_know_are_named_without_their_secrets(ask: Ask) -> None:
    found = ask(
        {"RECSTREAM_KAFKA__CLIENT__SASL_PASSWORD": "hunter2"}, **{"kafka__client__sasl__mechansim": "x"}
    )
    assert not found["broker"].ok
    assert "sasl.mechansim" in found["broker"].detail
    assert "hunter2" not in str(found)


@pytest.mark.kafka
def test_a_topic_that_is_not_there_has_its_neighbour_and_the_command(
    ask: Ask, broker: EmbeddedBroker, topic: Callable[..., str]
) -> None:
    names = {f"kafka__{kind}_topic": topic(kind, partitions=2) for kind in ("items", "lists", "dead_letter")}
    near = topic("purchases", partitions=2)
    meant = near.replace("purchases", "purchsaes")
    found = ask(kafka__bootstrap=broker.bootstrap, kafka__events_topic=meant, **names)
    assert bad(found) == {f"topic {meant}"}
    mend = found[f"topic {meant}"].mend
    assert f"set kafka.events_topic to '{near}'" in mend
    assert f"--create --topic {meant}" in mend


@pytest.mark.kafka
def test_the_command_that_makes_a_topic_says_what_it_keeps_and_how_often(
    ask: Ask, broker: EmbeddedBroker
) -> None:
    kinds = ("events", "items", "lists", "dead_letter", "sessions")
    found = ask(kafka__bootstrap=broker.bootstrap, **{f"kafka__{k}_topic": f"none-{k}" for k in kinds})
    mends = {kind: found[f"topic none-{kind}"].mend for kind in kinds}
    assert {kind for kind, mend in mends.items() if "--config cleanup.policy=compact" in mend} == {
        "items",
        "lists",
    }
    kept = {kind for kind, mend in mends.items() if "--config retention.ms=" in mend and " days)" in mend}
    assert kept == {"events", "dead_letter", "sessions"}
    assert all("--partitions 4 --replication-factor 1" in mend for mend in mends.values())


DELETED = {"cleanup.policy": "delete", "retention.ms": "604800000"}
BOTH = {"cleanup.policy": "compact,delete", "retention.ms": "3600000"}
COMPACTED = {"cleanup.policy": "compact", "retention.ms": "604800000"}
KEPT = {"cleanup.policy": "delete", "retention.ms": "-1"}


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("kind", "config", "said", "mend"),
    [
        ("lists", DELETED, "keeps lists for 7 days only", "cleanup.policy=compact"),
        ("lists", BOTH, "keeps lists for 0.0417 days only", "cleanup.policy=compact"),
        ("lists", COMPACTED, "", ""),
        ("lists", KEPT, "", ""),
        ("lists", {}, "", ""),
        ("lists", None, "", ""),
        ("lists", {"max.message.bytes": "30000"}, "records of 30,000 bytes at most", "max.message.bytes="),
        ("lists", {"max.message.bytes": "1048588"}, "", ""),
        ("items", DELETED, "keeps items for 7 days only", "cleanup.policy=compact"),
        ("items", COMPACTED, "", ""),
        ("events", DELETED, "", ""),
        ("events", KEPT, "", ""),
        ("events", {"min.insync.replicas": "1"}, "", ""),
        ("dead_letter", COMPACTED, "is compacted", "cleanup.policy=delete"),
    ],
)
def test_a_topic_that_loses_or_refuses_what_is_wanted_is_warned_of(
    ask: Ask,
    broker: EmbeddedBroker,
    topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    config: dict[str, str] | None,
    said: str,
    mend: str,
) -> None:
    """What is not told is not judged."""
    name = topic(kind)
    monkeypatch.setattr(diagnosis, "configs", lambda *_, **__: {name: config})
    found = ask(kafka__bootstrap=broker.bootstrap, **{f"kafka__{kind}_topic": name})[f"topic {name}"]
    assert found.ok
    assert found.is_warning == bool(said)
    assert said in found.detail
    assert mend in found.mend


@pytest.mark.kafka
def test_events_of_which_only_the_newest_are_kept_are_a_fault(
    ask: Ask, broker: EmbeddedBroker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("events")
    monkeypatch.setattr(diagnosis, "configs", lambda *_, **__: {name: COMPACTED})
    found = ask(kafka__bootstrap=broker.bootstrap, kafka__events_topic=name)[f"topic {name}"]
    assert not found.ok
    assert not found.is_warning
    assert "only the newest are kept" in found.detail
    assert "cleanup.policy=delete" in found.mend


@pytest.mark.kafka
def test_more_processes_than_partitions_are_warned_of(
    ask: Ask, broker: EmbeddedBroker, topic: Callable[..., str]
) -> None:
    name = topic("events", partitions=2)
    chosen = {"kafka__bootstrap": broker.bootstrap, "kafka__events_topic": name}
    assert not ask(**chosen, run__processes=2)[f"topic {name}"].is_warning
    found = ask(**chosen, run__processes=3)[f"topic {name}"]
    assert found.ok
    assert found.is_warning
    assert f"--topic {name} --partitions 3" in found.mend


@pytest.mark.kafka
def test_a_broker_that_advertises_an_address_which_cannot_be_reached_is_named(ask: Ask) -> None:
    proxy = KafkaProxy()
    with EmbeddedBroker(advertised=proxy.address) as own:
        proxy.target = int(own.bootstrap.split(":")[1])
        ensure_topics(own.bootstrap, {"events": 1})
        proxy.close()
        found = ask(kafka__bootstrap=own.bootstrap)
    assert found["broker"].ok, "it answers where it was asked"
    assert f"broker {proxy.address}" in bad(found)
    assert f"{own.bootstrap} sends its clients to {proxy.address}" in found[f"broker {proxy.address}"].detail
    assert "advertised.listeners" in found[f"broker {proxy.address}"].mend


@pytest.mark.kafka
def test_a_set_up_that_is_well_has_nothing_to_mend(
    ask: Ask, broker: EmbeddedBroker, topic: Callable[..., str]
) -> None:
    names = {f"kafka__{k}_topic": topic(k) for k in ("events", "items", "lists", "dead_letter", "sessions")}
    found = ask(kafka__bootstrap=broker.bootstrap, **names)
    assert bad(found) == set()
    assert all(finding.mend == "" for finding in found.values())


def test_a_misspelt_setting_is_to_be_renamed(ask: Ask) -> None:
    found = ask({"RECSTREAM_KAFKA__GRUOP": "x"})
    assert bad(found) == {"settings", "broker"}, "the rest is looked at with the settings that are right"
    assert found["settings"] == Finding(
        "settings", False, "RECSTREAM_KAFKA__GRUOP is not a setting", "rename it to RECSTREAM_KAFKA__GROUP"
    )


def test_settings_that_are_loaded_already_will_do(base: dict[str, object]) -> None:
    found = diagnose(Settings.load(None, {}, base), timeout_s=0.3)
    assert found[0] == Finding("settings", True, "all known and in range")


def test_a_model_that_is_not_there_is_named(ask: Ask, tmp_path: Path) -> None:
    found = ask(encoder__backend="transformers", encoder__model=str(tmp_path / "no-model"))
    assert bad(found) == {"broker", "model"}
    assert "no-model" in found["model"].detail
    assert "encode" not in found


def test_a_model_with_another_digest_is_refused(ask: Ask) -> None:
    found = ask(encoder__backend="transformers", encoder__sha256="0" * 64)
    assert "model" in bad(found)
    assert "0" * 64 in found["model"].detail
    assert "sha256" in found["model"].mend


def test_a_server_that_does_not_answer_is_named(ask: Ask) -> None:
    found = ask(encoder__backend="openai", encoder__url="http://127.0.0.1:1/v1")
    assert {"model", "encode"} & bad(found)


def test_a_file_in_the_way_of_the_store_is_named(ask: Ask, base: dict[str, object]) -> None:
    Path(str(base["store.path"])).write_text("")
    found = ask()
    assert {"store"} <= bad(found)
    assert "is a file, wanted a folder" in found["store"].detail
    assert "store.path" in found["store"].mend


def test_a_folder_that_cannot_be_made_is_named(ask: Ask) -> None:
    found = ask(store__path="/proc/recstream", cache__enabled=False)
    assert "store" in bad(found)
    assert "store.path" in found["store"].mend


def test_a_store_made_with_another_encoder_is_named(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "state", encoder="another encoder", dim=8)
    found = ask()
    assert bad(found) == {"broker", "store encoder"}
    assert "'another encoder'" in found["store encoder"].detail
    assert "re-encode" in found["store encoder"].mend


def test_a_store_made_with_other_shards_is_named(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "state", shards=7)
    found = ask()
    assert bad(found) == {"broker", "store shards"}
    assert "store.shards = 7" in found["store shards"].mend


def test_a_store_whose_events_were_counted_by_other_rules_is_named(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "state")
    found = ask(events__actions={"like": 7, "gift": 3})
    assert bad(found) == {"broker", "store rules"}
    assert "events.actions.like was 2.0, is 7.0" in found["store rules"].detail
    assert "gift" not in found["store rules"].detail, "what was added is no difference"
    assert f"recstream upgrade --state {tmp_path / 'state'} --accept-rules" in found["store rules"].mend


@pytest.mark.parametrize(
    ("layout", "mend"), [(1, "recstream upgrade --state"), (99, "install the newer recstream")]
)
def test_a_store_of_another_layout_is_named(ask: Ask, tmp_path: Path, layout: int, mend: str) -> None:
    made(tmp_path / "state", schema=layout)
    found = ask()
    assert bad(found) == {"broker", "store schema"}
    assert f"has layout {layout}" in found["store schema"].detail
    assert mend in found["store schema"].mend


def test_a_store_that_is_there_is_not_said_to_be_made(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    assert ask(store__path="state")["store"].detail == "state can be written"


def test_a_store_that_a_job_runs_on_is_said_to_be_in_use(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "state")
    assert "store in use" not in ask()
    with job_lock(tmp_path / "state", "run"):
        for _ in range(2):
            found = ask()
            assert bad(found) == {"broker"}
            assert "`recstream run` (process " in found["store in use"].detail
    assert "store in use" not in ask()


@pytest.mark.parametrize("path", ["s3:/recs/store", "gs:/recs/store"])
def test_a_store_that_cannot_be_there_is_not_said_to_be_writable(ask: Ask, path: str) -> None:
    """Whoever refuses it, the settings or the store."""
    found = ask(store__path=path, cache__enabled=False)
    assert bad(found) & {"store", "settings"}
    assert path not in found["store"].detail or not found["store"].ok


def test_a_store_made_with_these_settings_is_well(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "state")
    assert bad(ask()) == {"broker"}


def test_a_store_is_looked_at_even_when_the_encoder_does_not_open(ask: Ask, tmp_path: Path) -> None:
    made(tmp_path / "state", shards=7)
    found = ask(encoder__backend="transformers", encoder__model=str(tmp_path / "no-model"))
    assert bad(found) == {"broker", "model", "store shards"}


def test_a_damaged_cache_is_named(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(b"not lmdb" * 4096)
    found = ask(cache__path=str(folder))
    assert bad(found) == {"broker", "cache"}
    assert "delete" in found["cache"].mend


def test_a_taken_port_is_named(ask: Ask) -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        found = ask(run__metrics_port=port)
    assert bad(found) == {"broker", "metrics port"}
    assert "run.metrics_port" in found["metrics port"].mend


def test_the_port_of_a_running_job_is_no_problem(ask: Ask) -> None:
    with PrometheusMeters().serve(0) as server:
        found = ask(run__metrics_port=server.port)
    assert "a running recstream" in found["metrics port"].detail


def test_nothing_is_left_behind(ask: Ask, tmp_path: Path) -> None:
    ask(cache__path=str(tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kafka
@pytest.mark.parametrize(("at", "warns"), [(0, True), (4, True), (5, False), (9, False)])
def test_a_job_that_is_far_behind_is_warned_of(
    ask: Ask,
    broker: EmbeddedBroker,
    topic: Callable[..., str],
    base: dict[str, object],
    at: int,
    warns: bool,
) -> None:
    names = {f"kafka__{kind}_topic": topic(kind) for kind in ("events", "items", "lists", "dead_letter")}
    name = names["kafka__events_topic"]
    produce(broker.bootstrap, name, [b"{}"] * 9)
    identity = topics(broker.bootstrap, [name])[name].identity(0)
    store_positions(Path(str(base["store.path"])), {f"{name}/0": (identity, at)})
    found = ask(kafka__bootstrap=broker.bootstrap, **names)["positions"]
    assert (found.ok, found.is_warning) == (True, warns)
    assert ("recstream positions" in found.mend) == warns


@pytest.mark.kafka
def test_a_position_that_is_not_held_is_a_fault(
    ask: Ask, broker: EmbeddedBroker, topic: Callable[..., str], base: dict[str, object]
) -> None:
    names = {f"kafka__{kind}_topic": topic(kind) for kind in ("events", "items", "lists", "dead_letter")}
    name = names["kafka__events_topic"]
    produce(broker.bootstrap, name, [b"{}"] * 4)
    identity = topics(broker.bootstrap, [name])[name].identity(0)
    store_positions(Path(str(base["store.path"])), {f"{name}/0": (identity, 7)})
    found = ask(kafka__bootstrap=broker.bootstrap, **names)
    assert bad(found) == {"positions"}
    assert f"{name}/0: position 7" in found["positions"].detail
    assert "--to earliest" in found["positions"].mend
