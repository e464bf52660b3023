"""What the pages name exists, and what they tabulate is what the code has."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from recstream.config import Settings
from recstream.metrics.names import METRICS
from recstream.ranking.signals.table import SIGNALS
from recstream.records.actions import DEFAULT_ACTIONS
from recstream.records.reject import REASONS
from recstream.records.schema import all_schemas
from tests.support.documents import PAGES, ROOT, Block, blocks, page, prose, tables

README_LINES: Final = 160
HOSTS: Final = {"github.com", "keepachangelog.com", "semver.org", "localhost", "ifdb.org"}
"""Hosts that a text may link to or name in an address; none of them offers packages."""
LANGUAGES: Final = {"sh", "console", "python", "diff", "json", "toml", "text"}
"""What a block may be: `sh` and `python` are run, a `diff` is applied, `json` and `toml` are checked, what a
`console` shows is compared with what a command prints, `text` is a picture."""
TEXTS: Final = (
    *PAGES,
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
    "docker/Dockerfile",
    "docker/compose.yml",
)
"""Where nothing may be named that is not there."""
EXTENDING: Final = "docs/extending.md"
"""It names files and metrics that its reader is about to write, and has tests of its own."""
SCHEMAS: Final = all_schemas()
ALL_BLOCKS: Final = [block for name in PAGES for block in blocks(name)]
SECTIONS: Final = tuple(Settings.model_fields)


def of(language: str) -> list[Block]:
    return [block for block in ALL_BLOCKS if block.language == language]


def test_the_readme_is_an_introduction() -> None:
    assert len(page("README.md").splitlines()) <= README_LINES


@pytest.mark.parametrize("block", ALL_BLOCKS, ids=str)
def test_the_language_of_a_block_is_one_that_is_tested(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block}: {block.language!r}"


@pytest.mark.parametrize("block", of("text"), ids=str)
def test_a_text_block_is_a_picture(block: Block) -> None:
    assert "──" in block.text, f"{block} looks like something that should be run"


def test_the_picture_of_the_graph_has_the_steps_of_the_graph() -> None:
    (picture,) = [block for block in of("text") if block.heading == "The graph"]
    source = (ROOT / "recstream/dataflow/graph.py").read_text()
    names = set(re.findall(r"\b[a-z]+_[a-z_]+[a-z]\b", picture.text))
    assert names >= {"decode_events", "encode_items", "store_items"}
    assert {name for name in names if f'"{name}"' not in source} == set()


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a block, one after another."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        found, at = decoder.raw_decode(text, at)
        yield found


def kind_of(record: dict[str, Any]) -> str:
    """Which record it is, by a field that only records of this kind have."""
    marks = {"action": "event", "reason": "reject", "session_id": "session", "as_of": "recommendation"}
    return next((kind for mark, kind in marks.items() if mark in record), "item")


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_a_record_by_its_schema(block: Block) -> None:
    found = list(objects(block.text))
    assert found
    for record in found:
        kind = kind_of(record)
        if block.page == "docs/records.md":
            assert block.heading == kind.replace("reject", "dead letter").capitalize(), (
                f"{block} shows: {kind}"
            )
        jsonschema.validate(record, SCHEMAS[kind])


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_settings(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "recstream.toml"
    path.write_text(block.text)
    assert Settings.load(path, {}) != Settings()


def test_the_threads_of_a_job_are_all_told() -> None:
    folders = ("connectors", "dataflow", "metrics", "runtime", "stores")
    source = "".join(
        path.read_text() for name in folders for path in (ROOT / "recstream" / name).rglob("*.py")
    )
    names = set(
        re.findall(r'(?<![\w.])(?:thread_name_prefix|name)="([a-z -]+)", daemon|prefix="([a-z]+)"', source)
    )
    threads = {one or other for one, other in names} - {"recstream-broker"}  # of the demo and the tests
    assert "background" in threads
    assert {name for name in threads if f"`{name}`" not in page("docs/architecture.md")} == set()


SEAMS: Final = {
    *("A signal", "A source and a sink", "An encoder", "A store", "A ranking model", "An action", "A metric"),
    "A command",
}


def test_the_page_on_extending_has_a_section_for_each_seam() -> None:
    assert set(re.findall(r"^## (.+)$", page(EXTENDING), re.MULTILINE)) == SEAMS
    assert {block.heading for block in blocks(EXTENDING)} == SEAMS


def fields_of(schema: dict[str, Any], prefix: str = "") -> set[str]:
    """Names of a record's fields, those of the entries of its ``items`` too."""
    found = set()
    for name, field in schema.get("properties", {}).items():
        found.add(prefix + name)
        if name == "items":
            found |= fields_of(field.get("items", {}), "items[].")
    for part in (*schema.get("allOf", ()), schema.get("then"), schema.get("else")):
        found |= fields_of(part, prefix) if part else set()
    return found


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        ("event", "Event"),
        ("item", "Item"),
        ("recommendation", "Recommendation"),
        ("reject", "Dead letter"),
        ("session", "Session"),
    ],
)
def test_the_fields_of_a_record_are_those_of_its_schema(kind: str, heading: str) -> None:
    rows = tables("docs/records.md", heading)[0]
    assert {name for row in rows for name in quoted(row[0])} == fields_of(SCHEMAS[kind])


def test_the_actions_are_all_there_with_their_weights() -> None:
    rows = tables("docs/records.md", "Actions")[0]
    weights = {name: row[1] for row in rows for name in quoted(row[0])}
    assert set(weights) == set(DEFAULT_ACTIONS)
    for name, told in weights.items():
        top = told.rpartition(" to ")[2] or "0"  # of a rating what the best one is worth
        assert float(top) == DEFAULT_ACTIONS[name].weight, name


def test_the_reasons_are_all_there() -> None:
    rows = tables("docs/records.md", "Dead letter")[1]
    assert {name for row in rows for name in quoted(row[0])} == set(REASONS)


def test_the_signals_of_the_kernels_are_all_there() -> None:
    """One that computes itself says what it measures in its own file, so that it is one file and one row."""
    rows = tables("docs/quality.md", "Signals")[0]
    wanted = {name for name, signal in SIGNALS.items() if signal.compute is None}
    assert {name for row in rows for name in quoted(row[0])} == wanted


def test_the_folders_are_all_there() -> None:
    rows = tables("docs/architecture.md", "The folders")[0]
    folders = [path.parent.name for path in (ROOT / "recstream").glob("*/__init__.py")]
    assert sorted(name for row in rows for name in quoted(row[0])) == sorted(folders)


def test_the_words_of_the_glossary_are_used_in_the_code() -> None:
    source = "\n".join(path.read_text().lower() for path in (ROOT / "recstream").rglob("*.py"))
    rows = tables("docs/concepts.md", "Glossary")[0]
    words = [row[0] for row in rows]
    assert words == sorted(words)
    unused = [word for word in words if not re.search(re.sub(r"[ -]", "[ _-]?", word), source)]
    assert unused == []


@pytest.mark.parametrize("name", PAGES)
def test_settings_that_are_named_exist(name: str) -> None:
    known = {f"{section}.{field}" for section in SECTIONS for field in _fields(section)}
    text = page(name).replace("recstream.", "")
    named = set(re.findall(rf"`(?:--set )?((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?![a-z_*])", text))
    assert {one for one in named if one not in known and f"{one}.py" not in text} == set()


def _fields(section: str) -> dict[str, Any]:
    fields: dict[str, Any] = type(Settings.model_fields[section].default).model_fields
    return fields


@pytest.mark.parametrize("name", [name for name in PAGES if name != EXTENDING])
def test_metrics_that_are_named_exist(name: str) -> None:
    known = {
        f"recstream_{one}{'_total' if metric.kind == 'counter' else ''}" for one, metric in METRICS.items()
    }
    named = set(re.findall(r"`(recstream_\w+)`", page(name)))
    assert named - known == set()


PATH: Final = re.compile(r"(?<![\w/.-])((?:tests|recstream|flows|docs|docker)/[\w./-]*\w)(?![\w*])")


@pytest.mark.parametrize("name", TEXTS)
def test_paths_that_are_named_exist(name: str) -> None:
    missing = {path for path in PATH.findall(page(name)) if not (ROOT / path).exists()}
    if name == EXTENDING:
        missing = {path for path in missing if not (ROOT / path).parent.is_dir()}
    assert missing == set()


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "CHANGELOG.md"])
def test_modules_that_are_named_exist(name: str) -> None:
    for module in set(re.findall(r"(?:`|python -m )((?:recstream|tests)(?:\.[a-z_]+)+)", page(name))):
        importlib.import_module(module)


@pytest.mark.parametrize("name", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(name)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / name).parent / path if path else ROOT / name
        assert linked.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name} links to {target}, which has no such heading"


def anchors(path: Path) -> set[str]:
    """What a heading is linked to by: its words in lower case, joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_names_a_host_that_is_not_allowed(name: str) -> None:
    assert set(re.findall(r"https?://([\w.-]+)", page(name))) <= HOSTS | {"127.0.0.1"}


def test_no_text_refers_to_a_document_that_is_not_in_the_repository() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    files = [name for name in tracked if (ROOT / name).is_file()] or [*PAGES, "CHANGELOG.md"]
    names = {Path(name).name for name in files}
    faults = []
    for name in files:
        if Path(name).suffix in {".py", ".md", ".toml", ".yml"} and name != str(
            Path(__file__).relative_to(ROOT)
        ):
            text = (ROOT / name).read_text(encoding="utf-8")
            faults += [f"{name}: {one}" for one in re.findall(r"\b[\w-]+\.md\b", text) if one not in names]
    assert faults == []
