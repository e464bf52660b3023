"""What can be known of the container files without an engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

from recstream.config import Settings
from recstream.metrics.prometheus import PrometheusMeters

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile and what follows them, comments gone, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(w, rest) for w, _, rest in (line.partition(" ") for line in joined.splitlines()) if w]


IMAGE = instructions((DOCKER / "Dockerfile").read_text())
FINAL = IMAGE[max(i for i, (word, _) in enumerate(IMAGE) if word == "FROM") :]


def last(word: str) -> str:
    return [rest for w, rest in FINAL if w == word][-1]


def settings_of(service: dict[str, Any]) -> Settings:
    return Settings.load(DOCKER / "recstream.toml", service["environment"])


def test_the_final_image_runs_as_a_user_without_rights() -> None:
    assert last("USER") == "recstream"
    assert "useradd" in last("RUN")
    assert "--uid 10001" in last("RUN")


def test_recstream_is_process_1_so_that_it_gets_the_signal_itself() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["recstream"]
    assert json.loads(last("CMD")) == ["run"]
    assert last("STOPSIGNAL") == "SIGTERM"
    for name in OURS:
        assert isinstance(SERVICES[name]["command"], list), "a string would be run by a shell"


def test_health_is_asked_where_the_sample_settings_serve_it() -> None:
    port = Settings.load(DOCKER / "recstream.toml", {}).run.metrics_port
    assert f"127.0.0.1:{port}/healthz" in last("HEALTHCHECK")
    assert last("EXPOSE") == str(port)
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    compile(command[-1], "HEALTHCHECK", "exec")


def test_the_health_check_fails_exactly_where_the_job_does_not_live() -> None:
    port = Settings.load(DOCKER / "recstream.toml", {}).run.metrics_port
    program = json.loads(last("HEALTHCHECK").partition("CMD ")[2])[-1]
    wrong = ["the worker's loop has not turned"]
    probes = {"why_dead": lambda: "".join(wrong), "why_not_ready": lambda: "starting"}
    with PrometheusMeters().serve(0, host="127.0.0.1", **probes) as server:
        here = program.replace(f":{port}/", f":{server.port}/")
        with pytest.raises(HTTPError, match="503"):
            exec(here)  # noqa: S102 - our own file
        wrong.clear()
        exec(here)  # noqa: S102 - our own file
    with pytest.raises(URLError):
        exec(here)  # noqa: S102 - our own file


def test_everything_copied_is_there_and_reaches_the_builder() -> None:
    sent = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sources = [s for w, rest in IMAGE if w == "COPY" and "--from" not in rest for s in rest.split()[:-1]]
    assert sources
    # the README is written last of all files: it is asked of the builder's list only
    missing = [s for s in sources if s != "README.md" and not (ROOT / s).exists()]
    assert missing == []
    assert [s for s in sources if f"!{s}" not in sent] == []


def test_versions_are_those_of_the_tests() -> None:
    installs = [rest for w, rest in IMAGE if w == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert all("pip install -c constraints.txt" in rest for rest in installs)


@pytest.mark.parametrize("name", OURS)
def test_settings_named_in_compose_exist_and_are_valid(name: str) -> None:
    settings = settings_of(SERVICES[name])
    assert settings.kafka.bootstrap == "kafka:19092"
    volumes = [volume.split(":")[1] for volume in SERVICES[name]["volumes"]]
    for path in (settings.store.path, settings.cache.path):
        assert any(path.startswith(volume) for volume in volumes), f"{path} would go with the container"


def test_every_topic_of_the_settings_is_created() -> None:
    kafka = settings_of(SERVICES["recommend"]).kafka
    script = SERVICES["topics"]["command"][0]
    created = {
        topic: (int(n), "compact" in rest)
        for topic, n, rest in re.findall(r"^\s*create (\S+) (\d+)(.*)$", script, re.M)
    }
    assert created == {
        kafka.events_topic: (8, False),
        kafka.items_topic: (1, True),
        kafka.lists_topic: (8, True),
        kafka.dead_letter_topic: (1, False),
    }


def test_a_clean_stop_is_not_cut_short() -> None:
    grace = int(SERVICES["recommend"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings_of(SERVICES["recommend"]).run.stop_timeout_s


def test_services_wait_for_what_they_need() -> None:
    assert SERVICES["recommend"]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert "healthcheck" in SERVICES["kafka"]


def test_the_broker_is_reached_by_the_names_it_gives() -> None:
    env = SERVICES["kafka"]["environment"]
    advertised = env["KAFKA_ADVERTISED_LISTENERS"]
    assert "INSIDE://kafka:19092" in advertised
    assert SERVICES["kafka"]["hostname"] == "kafka"
    names = {part.partition(":")[0] for part in env["KAFKA_LISTENERS"].split(",")}
    assert names == {
        part.partition(":")[0] for part in env["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    }


def test_volumes_are_declared() -> None:
    named = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert {v for v in named if re.fullmatch(r"\w+", v)} == set(COMPOSE["volumes"])


def test_ports_are_open_to_this_machine_only() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
