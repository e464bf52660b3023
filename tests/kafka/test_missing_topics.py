"""Topics that Apache Kafka does not have when a job starts are all named at once."""

from __future__ import annotations

from pathlib import Path

from tests.support.apache_kafka import ApacheKafka
from tests.support.commands import recstream


def test_all_topics_that_lack_are_named_and_no_process_is_started(kafka: ApacheKafka, tmp_path: Path) -> None:
    """With the mend; the one that is there is not among them."""
    kafka.create("there-items")
    there, lack = (
        {"items": "there-items"},
        {kind: f"no-{kind}" for kind in ("events", "lists", "dead_letter")},
    )
    chosen = {f"RECSTREAM_KAFKA__{kind.upper()}_TOPIC": name for kind, name in {**there, **lack}.items()}
    done = recstream("run", env={"RECSTREAM_KAFKA__BOOTSTRAP": kafka.bootstrap, **chosen}, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: Kafka at {kafka.bootstrap} has no topic {[*lack.values()]}; create it")
    assert "there-items" not in line
    assert "process=0" not in done.stderr
    assert "Traceback" not in done.stderr
