"""Every command and program of the pages is run, in the order of its page, offline and on small data.

All pages share a broker, a live job on it, and two small files. What costs minutes or changes the machine is
not run: `CHECKED` says which commands, why, and how they are checked instead. JSON, TOML and pictures are the
subject of `test_pages`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import orjson
import pytest
import typer.main
from confluent_kafka import Producer
from typer.core import TyperGroup

from recstream.cli import app
from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.metrics.accounting import Accounting
from tests.support.commands import command, environment, recstream
from tests.support.documents import PAGES, ROOT, blocks, prose, snippets
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import Record, item, write_lines
from tests.support.topics import Reader, produce

T0: Final = 1_700_000_000
ITEMS: Final[list[Record]] = [
    {"item_id": "50", "title": "Star Wars", "categories": ["Sci-Fi"]},
    *(item(number) for number in range(12)),
]
EVENTS: Final[list[Record]] = [
    {"event_id": f"a{k}", "user_id": user, "ts": T0 + 60 * k, "action": "like", "item_id": f"i{(5 * k) % 12}"}
    for k, user in enumerate(["ann", "bob", "cid"] * 8)
]
BAD: Final[list[Record]] = [
    {"user_id": "cid", "ts": T0, "action": "veiw", "item_id": "i1"},
    {"user_id": "cid", "ts": T0 * 1000, "action": "view", "item_id": "i2"},
]
"""Events that are rejected, and that the page on operations mends."""


# How commands are checked that are not run


def words(line: str) -> list[str]:
    """A command's words, comments left out."""
    return shlex.split(line.replace("\\\n", " "), comments=True)


def options_exist(line: str) -> None:
    """Parse the options of a command of ours; nothing is run."""
    _, *given = words(line)
    at = typer.main.get_command(app)
    name = "recstream"
    while isinstance(at, TyperGroup):
        name = given.pop(0)
        assert name in at.commands, f"{line}: there is no {name}"
        at = at.commands[name]
    at.make_context(name, given)


def target_exists(line: str) -> None:
    """A target of the Makefile, and the variables and paths it is given."""
    makefile = (ROOT / "Makefile").read_text()
    _, target, *variables = words(line)
    assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{line}: no such target"
    for variable in variables:
        name, _, value = variable.partition("=")
        forms = (f"$({name})", f"$(if $({name})", f"$${name}")
        assert any(form in makefile for form in forms), f"{line}: {name} is not used"
        if name == "TESTS":
            assert [path for path in value.split() if not (ROOT / path).exists()] == [], line
        if target == "demo" and name == "ARGS":
            options_exist(f"recstream demo {value}")


def file_exists(line: str) -> None:
    assert (ROOT / words(line)[words(line).index("-f") + 1]).is_file(), line


def module_exists(line: str) -> None:
    module = words(line)[words(line).index("-m") + 1]
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), line


def extra_exists(line: str) -> None:
    extras = re.findall(r"\[(\w+)\]", words(line)[-1])
    assert extras
    assert all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text() for extra in extras), line


def tool_is_known(line: str) -> None:
    """A program of Kafka's own; what it does is tried on Apache Kafka."""
    assert words(line)[0] in {"kafka-acls.sh", "kafka-configs.sh", "kafka-topics.sh"}, line


CHECKED: Final[dict[str, tuple[Callable[[str], None], str]]] = {
    "make ": (target_exists, "sets up an environment of its own; each target is what these tests are run by"),
    "pip install ": (extra_exists, "changes the environment and needs a network"),
    "docker compose ": (file_exists, "needs a container engine; tests/test_docker.py checks the files"),
    "recstream run ": (options_exist, "runs until it is stopped; the live job of these tests is one"),
    "kafka-": (tool_is_known, "needs Apache Kafka; tests/kafka/test_page.py runs it"),
    "recstream eval ": (options_exist, "takes a minute of the CPU; tests/evaluation runs it"),
    "python -m tests.bench": (module_exists, "measures, and wants a quiet machine"),
}
"""By their beginning: how commands are checked that are not run, and why they are not."""


# How pages are run


class Site(NamedTuple):
    """Where the pages' commands run: a folder with two logs, and the environment that says where Kafka is."""

    folder: Path
    settings: dict[str, str]
    bootstrap: str
    metrics: int

    def here(self, text: str) -> str:
        """A snippet with the addresses of this site."""
        return text.replace("localhost:9092", self.bootstrap).replace(":9108", f":{self.metrics}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    write_lines(folder / "items.jsonl", ITEMS)
    write_lines(folder / "events.jsonl", EVENTS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics = free.getsockname()[1]
    with EmbeddedBroker() as broker:
        settings = {
            "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_STORE__PATH": str(folder / "live"),
            "RECSTREAM_RUN__METRICS_PORT": str(metrics),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        ensure_topics(
            broker.bootstrap,
            dict.fromkeys(("events", "items", "recommendations", "sessions", "recstream-dead-letter"), 1),
        )
        demo = folder / ".demo"
        demo.mkdir()
        (demo / "recstream.toml").write_text(f'[kafka]\nbootstrap = "{broker.bootstrap}"\n')
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "activate").touch()
        produce(broker.bootstrap, "items", ITEMS)
        produce(broker.bootstrap, "events", [*EVENTS, *BAD])
        with live_job(folder / "job.log", settings) as job:
            lists = Reader(broker.bootstrap, "recommendations")
            wait_until(
                lambda: lists.versions().get("ann") == 8, job.text, seconds=240.0
            )  # it may compile first
            lists.close()
            journal = folder / "live" / "users.journal"
            wait_until(lambda: not any(journal.glob("*.journal")), job.text)
            yield Site(folder, settings, broker.bootstrap, metrics)


def commands(text: str) -> list[str]:
    """The commands of a block, each with its continued lines and what it is given to read."""
    found: list[str] = []
    ending = ""
    for line in text.splitlines():
        if ending:
            found[-1] += f"\n{line}"
            ending = "" if line == ending else ending
        elif found and found[-1].endswith("\\"):
            found[-1] = f"{found[-1]}\n{line}"
        elif line.strip():
            found.append(line)
            if document := re.search(r"<<'(\w+)'", line):
                ending = document[1]
    return found


def checked(line: str) -> Callable[[str], None] | None:
    """How a command is checked that is not run; None: it is run."""
    return next((check for start, (check, _) in CHECKED.items() if line.startswith(start)), None)


def is_endless(line: str) -> bool:
    """Whether a command goes on until somebody stops it."""
    given = words(line)
    return given[:2] == ["recstream", "tail"] and not {"--file", "-n", "--idle-s"} & set(given)


def run(line: str, site: Site) -> str:
    """Run a command to its end; gives what it prints. It must exit with 0."""
    if re.fullmatch(r"recstream [^|<>&;$]*(> [\w.]+)?", words_only := line.partition(" #")[0].strip()):
        told, _, path = words_only.partition(" > ")
        done = recstream(*words(told)[1:], env=site.settings, cwd=site.folder)
        if path:
            (site.folder / path).write_text(done.stdout)
    else:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            env=environment(site.settings),
            cwd=site.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class Background:
    """What goes on while the page is read on: a command, or a program."""

    def __init__(self, argv: list[str], site: Site, log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                env=environment({**site.settings, "PYTHONUNBUFFERED": "1"}),
                cwd=site.folder,
                stdout=out,
                stderr=out,
            )

    def shows(self, *texts: str) -> None:
        """Wait until it has printed all of this."""
        wait_until(lambda: all(text in self.log.read_text() for text in texts), self.log.read_text)

    def stop(self) -> None:
        """End it, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def lines_of(name: str) -> list[str]:
    """All commands of a page."""
    return [line for block in blocks(name) if block.language == "sh" for line in commands(block.text)]


@pytest.mark.parametrize("name", PAGES)
def test_commands_that_are_not_run_are_sound(name: str) -> None:
    for line in lines_of(name):
        if (check := checked(line)) is not None:
            check(line)


@pytest.mark.kafka
@pytest.mark.parametrize("name", [name for name in PAGES if not all(map(checked, lines_of(name)))])
def test_the_commands_of_a_page_run(name: str, site: Site, tmp_path: Path) -> None:
    """A command that does not end is watched while the program below it runs: the lists it causes arrive."""
    watched: Background | None = None
    printed = ""
    for number, block in enumerate(blocks(name)):
        text = site.here(block.text)
        if block.language == "python" and watched is not None:
            run(f"python -c {shlex.quote(text)}", site)
            watched.shows("user ann  version 9 ", "user ann  version 10 ")
            watched.stop()
            watched = None
        for line in commands(text) if block.language == "sh" else ():
            if is_endless(line):
                watched = Background(command(*words(line)[1:]), site, tmp_path / f"{number}.log")
            elif checked(line) is None:
                printed += run(line, site)
    assert watched is None, f"{name}: nothing was sent while it was watched"
    lines = {masked(line) for line in printed.splitlines()}
    for block in blocks(name):
        if block.language == "console" and not block.text.startswith("$ make demo"):
            assert [line for line in block.text.splitlines() if masked(line) not in lines] == []


def masked(line: str) -> str:
    """A line without its figures."""
    return re.sub(r"\d[\d.,]*", "N", line.strip())


@pytest.mark.kafka
def test_the_consumer_keeps_the_newest_list_and_hears_of_erased_users(site: Site, tmp_path: Path) -> None:
    (program,) = snippets("../README.md", "The consumer")
    ensure_topics(site.bootstrap, {"lists-to-keep": 1})
    program = site.here(program).replace('["recommendations"]', '["lists-to-keep"]')
    consumer = Background([sys.executable, "-c", program], site, tmp_path / "log")
    producer = Producer({"bootstrap.servers": site.bootstrap})
    sent = [
        *((0, 2, 5.0, "b"), (0, 1, 9.0, "a"), (0, 2, 5.0, "b"), (0, 2, 6.0, "c"), (0, 0, 0.0, "")),
        *((0, 2, 4.0, "d"), (7, 1, 3.0, "e"), (0, 9, 9.0, "f"), (7, 1, 4.0, "g")),
    ]
    for generation, version, at, item_id in sent:  # version 0: a tombstone
        record = {"version": version, "generated_at": at, "items": [{"item_id": item_id}]}
        if generation:  # lists of earlier releases have none
            record["generation"] = generation
        producer.produce("lists-to-keep", orjson.dumps(record) if version else None, key="ann")
        assert producer.flush(10) == 0
    consumer.shows("['g']")
    consumer.stop()
    kept = [line for line in consumer.log.read_text().splitlines() if line.startswith("ann")]
    assert kept == ["ann 2 ['b']", "ann 2 ['c']", "ann 2 ['d']", "ann 1 ['e']", "ann 1 ['g']"]


def test_every_program_is_run_by_a_test() -> None:
    """Those of the README here; each section on extending by the tests of its kind."""
    programs = {
        (block.page, block.heading)
        for name in PAGES
        for block in blocks(name)
        if block.language in {"python", "diff"}
    }
    sections = {heading for where, heading in programs if where == "docs/extending.md"}
    assert programs - {("docs/extending.md", heading) for heading in sections} == {
        ("README.md", "A first event by hand"),
        ("README.md", "The consumer"),
    }
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {one for one in sections if f'snippets("extending.md", "{one}"' not in tests} == set()


@pytest.mark.parametrize("name", PAGES)
def test_commands_within_the_text_exist(name: str) -> None:
    """Their options too; what stands for a value of the reader's is in capitals."""
    for line in re.findall(r"`((?:recstream|make) [^`]+)`", prose(name)):
        if line.startswith("make "):
            target_exists(line)
        else:
            names_exist(line)


def names_exist(line: str) -> None:
    """A command of ours, perhaps without its arguments, and the options that are named with it."""
    at = typer.main.get_command(app)
    known: set[str] = set()
    for word in words(line)[1:]:
        if isinstance(at, TyperGroup) and not word.startswith("-") and not word.isupper():
            assert word in at.commands, f"{line}: there is no {word}"
            at = at.commands[word]
            known = {option for parameter in at.params for option in parameter.opts}
        elif word.startswith("--") and word != "--help":
            assert word in known, f"{line}: {word} is no option"


def test_the_demo_prints_what_the_pages_show() -> None:
    """Of its transcripts the words that are always the same."""
    shown = "".join(
        block.text for name in PAGES for block in blocks(name) if block.text.startswith("$ make demo")
    )
    assert EmbeddedBroker.label in shown
    assert str(Accounting(100_008, 100_001, 1, 0, 6, 0, balanced=True)) in shown
    source = "".join(path.read_text() for path in (ROOT / "recstream" / "demo").glob("*.py"))
    source += (ROOT / "Makefile").read_text()
    for told in (
        *(" runs at ", "the dataflow (Bytewax) as process ", "now searches for ", "The new list came after "),
        *(
            "because of ",
            "The catalogue is in: ",
            "event sent to list received: ",
            "setting up ",
            "ready after ",
        ),
        *("events", "dead letters", "latency", "time"),
    ):
        assert told in shown, told
        assert told in source, told
