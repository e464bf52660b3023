"""The settings: all sources, all problems at once, nothing secret shown."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recstream.config import ConfigError, Settings
from recstream.config.document import settings_page
from recstream.config.sections import EncoderSettings, KafkaSettings
from recstream.config.settings import is_secret
from recstream.config.sources import closest
from recstream.records.bounds import At, Bound

Problems = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def make(text: str) -> Path:
        path = tmp_path / "recstream.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def problems(write: Callable[[str], Path]) -> Problems:
    def ask(toml: str = "", environ: dict[str, str] | None = None, **overrides: object) -> list[str]:
        dotted = {name.replace("__", "."): value for name, value in overrides.items()}
        with pytest.raises(ConfigError) as caught:
            Settings.load(write(toml), environ or {}, dotted)
        return [problem.replace(str(write(toml)), "FILE") for problem in caught.value.problems]

    return ask


def test_every_problem_is_reported_at_once(problems: Problems) -> None:
    toml = """
        [kafka]
        gruop = "a"
        poll_max = 0
        [stroe]
        path = "x"
        [events]
        rating_min = 7
        [encoder]
        backend = "openai"
        """
    environ = {"RECSTREAM_KAFKA_GROUP": "a", "RECSTREAM_RUN__PROCESSES": "two", "HOME": "/"}
    assert sorted(problems(toml, environ, run__epoch_s="nan", ranking__top=3)) == sorted(
        [
            "FILE: [kafka] gruop is not a setting; did you mean [kafka] group?",
            "FILE: [kafka] poll_max: got 0, wanted at least 1",
            "FILE: [stroe] is not a section; did you mean [store]?",
            "FILE: [events] rating_min; events.rating_min is 7.0 and events.rating_max 5.0: "
            "wanted the minimum below the maximum",
            "FILE: [encoder] backend; encoder.backend is 'openai' and encoder.url empty: wanted its address",
            "RECSTREAM_KAFKA_GROUP is not a setting; did you mean RECSTREAM_KAFKA__GROUP?",
            "RECSTREAM_RUN__PROCESSES: got 'two', wanted a whole number",
            "command line: run.epoch_s: got 'nan', wanted a finite number",
            "command line: ranking.top is not a setting; did you mean ranking.top_n?",
        ]
    )


def test_a_conflict_between_sections_is_reported(problems: Problems) -> None:
    assert problems("[store]\nshards = 4", run__processes=8) == [
        "FILE: [store] shards, command line: run.processes; run.processes is 8 and store.shards 4: "
        "wanted at most as many processes as shards"
    ]


def test_a_field_that_is_wrong_causes_no_conflict_too(problems: Problems) -> None:
    """Only what the operator must mend: the address is wrong, not missing."""
    found = problems('[encoder]\nbackend = "openai"\nurl = "localhost:80"')
    assert found == [
        "FILE: [encoder] url: got 'localhost:80', wanted an address that starts with http:// or https://"
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RECSTREAM_TOP_N", "RECSTREAM_RANKING__TOP_N"),
        ("RECSTREAM_RANKING__TOPN", "RECSTREAM_RANKING__TOP_N"),
        ("RECSTREAM_PROFILE__HOT_USERS", "RECSTREAM_STORE__HOT_USERS"),
        ("RECSTREAM_STORE__HOT_USERS__X", "RECSTREAM_STORE__HOT_USERS"),
        ("recstream_kafka__group", "RECSTREAM_KAFKA__GROUP"),
    ],
)
def test_a_misspelt_variable_is_an_error_with_a_suggestion(problems: Problems, name: str, meant: str) -> None:
    assert problems(environ={name: "hunter2"}) == [f"{name} is not a setting; did you mean {meant}?"]


def test_a_setting_in_the_wrong_section_is_sent_home(problems: Problems) -> None:
    (found,) = problems("[events]\nhalf_life_days = 3")
    assert found == "FILE: [events] half_life_days is not a setting; did you mean [profile] half_life_days?"


def test_variables_that_kubernetes_sets_are_left_alone() -> None:
    """A service named recstream puts these into every pod of its namespace."""
    environ = {
        "RECSTREAM_SERVICE_HOST": "10.0.0.1",
        "RECSTREAM_SERVICE_PORT_METRICS": "9108",
        "RECSTREAM_PORT": "tcp://10.0.0.1:9108",
        "RECSTREAM_METRICS_PORT_9108_TCP_ADDR": "10.0.0.1",
    }
    assert Settings.load(None, environ) == Settings()


def test_the_command_line_beats_the_environment_beats_the_file(write: Callable[[str], Path]) -> None:
    path = write('[kafka]\ngroup = "file"\nevents_topic = "file"\nitems_topic = "file-items"')
    environ = {"RECSTREAM_KAFKA__GROUP": "env", "RECSTREAM_KAFKA__EVENTS_TOPIC": "env"}
    kafka = Settings.load(path, environ, {"kafka.group": "cli", "kafka.bootstrap": None}).kafka
    assert (kafka.group, kafka.events_topic, kafka.items_topic) == ("cli", "env", "file-items")
    assert kafka.bootstrap == "localhost:9092"


def test_the_environment_can_name_the_file(write: Callable[[str], Path]) -> None:
    path = write("[ranking]\ntop_n = 7")
    assert Settings.load(None, {"RECSTREAM_CONFIG": str(path)}).ranking.top_n == 7


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such file"),
        (b"[kafka", "is not TOML"),
        (b"\xff", "is not UTF-8"),
        (b"a = 1", "a is not"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem_beside_the_others(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Settings.load(path, {"RECSTREAM_RUN__RESTARTS": "-1"})
    file_problem, env_problem = caught.value.problems
    assert told in file_problem
    assert env_problem == "RECSTREAM_RUN__RESTARTS: got '-1', wanted at least 0"


def test_client_settings_come_nested_dotted_and_from_the_environment(write: Callable[[str], Path]) -> None:
    path = write('[kafka.client]\nsasl.mechanism = "PLAIN"\n"socket.timeout.ms" = 100\nlog.close = true')
    environ = {"RECSTREAM_KAFKA__CLIENT__SASL_PASSWORD": "hunter2"}
    assert Settings.load(path, environ, {"kafka.client.sasl.username": "u"}).kafka.client == {
        "sasl.mechanism": "PLAIN",
        "socket.timeout.ms": "100",
        "log.close": "true",
        "sasl.password": "hunter2",
        "sasl.username": "u",
    }


def test_client_settings_that_would_break_a_guarantee_are_refused(problems: Problems) -> None:
    (found,) = problems("[kafka.client]\nenable.auto.commit = true")
    assert "'enable.auto.commit' is not for the user to set" in found


def test_a_table_in_the_environment_replaces_and_an_entry_adds() -> None:
    environ = {
        "RECSTREAM_EVENTS__ACTIONS": '{"like": 3, "Wish List": 2}',
        "RECSTREAM_EVENTS__ACTIONS__SKIP": "-1",
    }
    assert Settings.load(None, environ).events.actions == {"like": 3.0, "Wish List": 2.0, "skip": -1.0}


def test_actions_and_signals_must_make_sense(problems: Problems) -> None:
    learned, signal = problems("[events.actions]\nforget = 2\n[ranking.weights]\nlong_trem = 1")
    assert "forget: nothing is learned from it" in learned
    assert signal.startswith("FILE: [ranking] weights: got {'long_trem': 1}, unknown long_trem, wanted names")


@pytest.mark.parametrize(
    "start",
    [
        *(
            "",
            "now",
            "ts=",
            "ts=yesterday",
            "ts=2024-01-01T00:00:00",
            "ts=1700000000000",
            "offsets=",
            "offsets={}",
        ),
        *('offsets={"events": 1}', 'offsets={"e/0": -1}', 'offsets={"e/0": true}', "offsets=[1]"),
    ],
)
def test_a_start_that_cannot_be_understood_is_refused(problems: Problems, start: str) -> None:
    (found,) = problems(kafka__start=start)
    assert found.startswith(f"command line: kafka.start: got {start!r}, wanted ")


@pytest.mark.parametrize(
    ("start", "bound"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("ts=1700000000", At(1_700_000_000_000)),
        ("ts=2024-01-01T00:00:00.5+02:00", At(1_704_060_000_500)),
        ('offsets={"events/0": 17}', {"events/0": 17}),
    ],
)
def test_a_start_is_handed_on_as_the_source_wants_it(start: str, bound: Bound) -> None:
    assert KafkaSettings(start=start).start_from == bound


SECRETS = {"RECSTREAM_KAFKA__CLIENT__SASL_PASSWORD": "hunter2", "RECSTREAM_ENCODER__API_KEY": "s3cret"}


def test_secrets_are_never_shown() -> None:
    settings = Settings.load(None, SECRETS)
    shown = f"{settings} {settings!r} {settings.as_toml()}"
    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert '# "sasl.password" = "**********"  # give it as RECSTREAM_KAFKA__CLIENT__SASL_PASSWORD' in shown
    assert settings.encoder.api_key.get_secret_value() == "s3cret"


def test_secrets_are_not_in_problems(problems: Problems) -> None:
    toml = '[kafka]\npoll_max = "x"\n[kafka.client]\nsasl.password = ["hunter2"]\n'
    toml += '[encoder]\napi_key = ["hunter2"]'
    found = problems(toml)
    assert len(found) == 3
    assert "hunter2" not in str(found)
    with pytest.raises(ValidationError) as caught:
        EncoderSettings(api_key=["hunter2"])  # type: ignore[arg-type]  # the point of the test
    assert "hunter2" not in str(caught.value)


def test_every_wrong_field_of_the_encoder_is_named_and_no_secret(problems: Problems) -> None:
    found = problems(
        encoder__max_tokens=0,
        encoder__retries=-1,
        encoder__api_key="hunter2\n",
        encoder__url="http://me:hunter2@host",
    )
    assert [problem.split(": ")[1] for problem in found] == [
        f"encoder.{name}" for name in ("max_tokens", "url", "api_key", "retries")
    ]
    assert "hunter2" not in str(found)
    assert "encoder.api_key: got **********, wanted printable ASCII on one line" in str(found)


@pytest.mark.parametrize(
    "key", ["kafka.client.ssl.key.password", "kafka.client.ssl.key.pem", "encoder.api_key"]
)
def test_secret_names_are_known(key: str) -> None:
    assert is_secret(key)


def test_an_error_survives_pickling() -> None:
    error = ConfigError(["a", "b"])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.problems, str(again)) == (error.problems, str(error))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().ranking.top_n = 3


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
topics = st.lists(st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), min_size=5, max_size=5, unique=True)
drawn_overrides: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "kafka.group": texts,
        "kafka.client.sasl.username": texts,
        "kafka.client.sasl.password": texts,
        "store.path": texts.filter(lambda text: ":/" not in text),
        "encoder.prefix": texts,
        "encoder.api_key": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
        "ranking.top_n": st.integers(1, 1000),
        "ranking.repeats": st.sampled_from(["auto", "always", "never"]),
        "profile.half_life_days": st.floats(1e-9, 36_500),
        "events.future_tolerance_s": st.floats(0, 1e300),
        "events.actions": st.dictionaries(texts.filter(str.strip), st.floats(-1e9, 1e9), max_size=3),
    },
)


def _can_be(overrides: dict[str, Any]) -> bool:
    return not {"request", "forget"} & overrides.get("events.actions", {}).keys()


@given(drawn_overrides.filter(_can_be), topics)
def test_any_settings_survive_the_environment_and_the_file(
    overrides: dict[str, Any], names: list[str]
) -> None:
    """A child rebuilds them exactly; the printed file needs only the secrets beside it."""
    kinds = ("events", "items", "lists", "dead_letter", "sessions")
    chosen = {f"kafka.{kind}_topic": name for kind, name in zip(kinds, names, strict=True)}
    settings = Settings.load(None, {}, {**overrides, **chosen})
    child = settings.environ_for_child({"HOME": "/", "RECSTREAM_CONFIG": "x", "RECSTREAM_NO": "x"})
    assert Settings.load(None, child) == settings

    file = _in_memory(settings.as_toml())
    secrets = {key: value for key, value in overrides.items() if is_secret(key)}
    assert Settings.load(file, {}, secrets) == settings


def _in_memory(text: str) -> Path:
    """A path that reads as the text: Hypothesis would write thousands of files."""

    class Memory(type(Path())):  # type: ignore[misc]  # the flavour of the platform
        def read_text(self, *_: object, **__: object) -> str:
            return text

    path: Path = Memory("recstream.toml")
    return path


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=4), st.text(max_size=40))
def test_no_input_raises_anything_else(environ: dict[str, str], toml: str) -> None:
    ours = {f"RECSTREAM_{name}": value for name, value in environ.items() if name != "CONFIG"}
    try:
        Settings.load(_in_memory(toml), ours)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - both outcomes are fine


@given(
    st.sampled_from(sorted(Settings().environ_for_child())), st.text(st.characters(exclude_characters="\0"))
)
def test_no_value_raises_anything_else(name: str, value: str) -> None:
    try:
        Settings.load(None, {name: value})
    except ConfigError as error:
        assert all(name in problem for problem in error.problems)  # noqa: PT017 - both outcomes are fine


def test_a_child_process_sees_the_same_settings() -> None:
    settings = Settings.load(None, SECRETS, {"events.actions": {'My "Act"': 2}, "store.path": "a b/ü"})
    code = (
        "import os; from recstream.config import Settings; s = Settings.load(None, os.environ); "
        "print(s.environ_for_child() == {k: v for k, v in os.environ.items() if k.startswith('RECSTREAM_')})"
    )
    env = settings.environ_for_child({"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"})
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout == "True\n"


def test_every_field_is_described_and_printed() -> None:
    toml = Settings().as_toml()
    for name in Settings.model_fields:
        section = getattr(Settings(), name)
        for field, info in type(section).model_fields.items():
            assert info.description, f"{name}.{field}"
            assert info.description in toml


def test_the_closest_name_is_stable() -> None:
    assert closest("ab", ["ax", "ay"]) == closest("ab", ["ay", "ax"])


def test_the_reference_of_the_settings_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    stale = "docs/settings.md is stale: run python -m recstream.config.document > docs/settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), stale


def test_the_reference_has_every_setting_once() -> None:
    _, *sections = settings_page().split("\n## ")
    assert [section.partition("\n")[0] for section in sections] == list(Settings.model_fields)
    for section, info in zip(sections, Settings.model_fields.values(), strict=True):
        names = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        assert names == list(type(info.default).model_fields)


# folders


@pytest.mark.parametrize("name", ["store.path", "cache.path"])
@pytest.mark.parametrize(
    "address",
    [
        *("s3://recs/store", "s3:/recs/store", "S3://recs/store", "gs://recs/store", "az://recs/store"),
        *("hdfs://node:9000/store", "file://another-machine/store", "file://", "file:///a%00b"),
    ],
)
def test_an_address_that_is_no_local_folder_is_refused_with_the_reason(name: str, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, {}, {name: address})
    (problem,) = caught.value.problems
    assert problem.startswith(f"command line: {name}: got {address!r}, wanted a folder on a local disk")


@given(st.lists(texts.filter(lambda name: "/" not in name), min_size=1, max_size=3))
def test_a_file_address_is_the_folder_that_it_names(names: list[str]) -> None:
    folder = Path("/", *names)
    for address in (folder.as_uri(), folder.as_uri().replace("file://", "file://localhost")):
        settings = Settings.load(None, {}, {"store.path": address, "cache.path": address})
        assert (settings.store_dir, settings.cache_dir) == (folder, folder)


def test_a_path_with_a_colon_is_a_path() -> None:
    for path in ("a:b", "./s3:/recs", "C:/recs", "s3:recs"):
        assert Settings.load(None, {}, {"store.path": path}).store_dir == Path(path)


def test_the_home_folder_has_one_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert Settings.load(None, {}, {"store.path": "~/state"}).store_dir == Path("/home/ann/state")


def test_a_relative_store_of_a_file_is_beside_the_file(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write('[store]\npath = "some/state"')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for settings in (Settings.load(path, {}), Settings.load(None, {"RECSTREAM_CONFIG": "../recstream.toml"})):
        assert settings.store_dir.resolve() == tmp_path / "some" / "state"
        assert settings.store_dir_before == elsewhere / "some" / "state"
    monkeypatch.chdir(tmp_path)
    assert Settings.load(path, {}).store_dir_before is None, "it is the same folder"


def test_a_store_named_elsewhere_is_taken_from_the_working_directory(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write('[store]\npath = "state"')
    monkeypatch.chdir("/")
    for environ, overrides in (({"RECSTREAM_STORE__PATH": "own"}, {}), ({}, {"store.path": "own"})):
        settings = Settings.load(path, environ, overrides)
        assert (settings.store_dir, settings.store_dir_before) == (Path("own"), None)


@pytest.mark.parametrize("path", ["/data/state", "~/state", "file:///data/state"])
def test_a_store_of_a_file_that_is_not_relative_is_where_it_says(
    write: Callable[[str], Path], path: str
) -> None:
    settings = Settings.load(write(f'[store]\npath = "{path}"'), {})
    assert settings == Settings.load(None, {}, {"store.path": path})


@given(st.data())
def test_settings_printed_by_name_are_those_and_no_others(data: st.DataObject) -> None:
    """Those of a table by its name, or one by one."""
    drawn = {"ranking.top_n": 7, "ranking.weights.fresh": 0.5, "events.actions.like": 2.5, "kafka.group": "g"}
    names = data.draw(st.sets(st.sampled_from(sorted(drawn))))
    settings = Settings.load(None, {}, drawn)
    again = Settings.load(_in_memory(settings.as_toml(names)), {})
    assert again == Settings.load(None, {}, {name: drawn[name] for name in names})
    tables = {"ranking.weights", "events.actions"}
    whole = Settings.load(_in_memory(settings.as_toml(tables)), {})
    assert (whole.ranking.weights, whole.events.actions) == ({"fresh": 0.5}, {"like": 2.5})
    assert whole.ranking.top_n == Settings().ranking.top_n
