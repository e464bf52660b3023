"""The settings: one frozen model from a TOML file, the environment and the command line, in rising order.

Names are ``section.field``: ``[kafka] group = "a"`` in the file, ``RECSTREAM_KAFKA__GROUP=a`` in the
environment. All problems are reported at once. Nothing here reads `os.environ`: it is handed in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import Self

from recstream.config.sections import (
    BackfillSettings,
    CacheSettings,
    DriftSettings,
    EncoderSettings,
    EventsSettings,
    KafkaSettings,
    ProfileSettings,
    RankingSettings,
    RunSettings,
    StoreSettings,
)
from recstream.config.sources import CONFIG_VARIABLE, PREFIX, ConfigError, Gathered, Schema, gather
from recstream.config.values import Conflict, Section
from recstream.records.bounds import Bound

__all__ = ["CONFIG_VARIABLE", "START", "ConfigError", "LivePlaces", "Settings", "is_secret"]

MASK = "**********"
START: Final = "kafka.start"
"""Name of the setting that says where reading begins."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_SECRET = re.compile(r"password|secret|token|api_key|jaas|\.pem$|oauthbearer\.config|\.key\.", re.IGNORECASE)

_LOGIN = re.compile(r"//[^/@]*@")
"""User and password in an address."""


def is_secret(key: str) -> bool:
    """Whether the value of a dotted setting must not be shown.

    >>> is_secret("kafka.client.sasl.password"), is_secret("kafka.client.sasl.username")
    (True, False)
    >>> is_secret("encoder.max_tokens")
    False
    """
    return key == "encoder.api_key" or (key.startswith("kafka.client.") and _SECRET.search(key) is not None)


class LivePlaces(NamedTuple):
    """Addresses that the live job reads (the first two) and writes."""

    events: str
    items: str
    lists: str
    dead_letter: str
    sessions: str
    """Empty: sessions are not written."""


class Settings(Section):
    """Everything an operator can choose; ``Settings()`` is all defaults."""

    kafka: KafkaSettings = Field(default=KafkaSettings(), description=str(KafkaSettings.__doc__))
    store: StoreSettings = Field(default=StoreSettings(), description=str(StoreSettings.__doc__))
    encoder: EncoderSettings = Field(default=EncoderSettings(), description=str(EncoderSettings.__doc__))
    cache: CacheSettings = Field(default=CacheSettings(), description=str(CacheSettings.__doc__))
    events: EventsSettings = Field(default=EventsSettings(), description=str(EventsSettings.__doc__))
    profile: ProfileSettings = Field(default=ProfileSettings(), description=str(ProfileSettings.__doc__))
    ranking: RankingSettings = Field(default=RankingSettings(), description=str(RankingSettings.__doc__))
    drift: DriftSettings = Field(default=DriftSettings(), description=str(DriftSettings.__doc__))
    run: RunSettings = Field(default=RunSettings(), description=str(RunSettings.__doc__))
    backfill: BackfillSettings = Field(default=BackfillSettings(), description=str(BackfillSettings.__doc__))
    _store_dir_before: Path | None = PrivateAttr(default=None)

    @classmethod
    def load(
        cls, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] = _NOTHING
    ) -> Self:
        """Build the settings from a file, the environment, and ``{"section.field": value}`` overrides.

        The later wins. Without ``path`` the file is the one that RECSTREAM_CONFIG names, or none. An
        override of None says nothing, so that unset command line options can be passed as they are.

        Raises:
            ConfigError: with every problem of all three sources at once.

        >>> Settings.load(None, {"RECSTREAM_RANKING__TOP_N": "5"}, {"ranking.repeats": "never"}).ranking.top_n
        5
        """
        built, problems = cls.examine(path, environ, overrides)
        if problems:
            raise ConfigError(problems, built)
        return built

    @classmethod
    def examine(
        cls, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] = _NOTHING
    ) -> tuple[Self, list[str]]:
        """The settings with defaults for what is wrong, and all that is wrong: what a doctor looks at."""
        gathered = gather(path, environ, overrides, _schema())
        problems, built = list(gathered.problems), None
        bad: set[str] = set()
        values = gathered.nested()
        while built is None:
            try:
                built = cls.model_validate(values)
            except ValidationError as err:
                for problem in err.errors(include_url=False):
                    problems += _describe(problem, gathered, bad)
                    _drop(values, problem["loc"])
        moved = gathered.store_moved
        if moved is not None and gathered.values.get("store.path") == moved.now:
            built._store_dir_before = moved.before  # noqa: SLF001 - of this class
        return built, problems

    def conflicts(self) -> Iterator[Conflict]:
        """A process without a shard would have nothing to do; memory is not shared."""
        if self.run.processes > 1 and self.store.backend == "memory":
            text = f"run.processes is {self.run.processes} and store.backend 'memory': wanted one process"
            yield Conflict(("run.processes", "store.backend"), text)
        if self.run.processes > self.store.shards:
            text = (
                f"run.processes is {self.run.processes} and store.shards {self.store.shards}: "
                "wanted at most as many processes as shards"
            )
            yield Conflict(("run.processes", "store.shards"), text)

    @property
    def store_dir(self) -> Path:
        """Folder of the store."""
        return Path(self.store.path).expanduser()

    @property
    def store_dir_before(self) -> Path | None:
        """Folder that earlier releases took for the store: below the working directory, not beside the file.

        None where that is the same, or ``store.path`` is not a relative one of a settings file.
        """
        return self._store_dir_before

    @property
    def cache_dir(self) -> Path:
        """Folder of the vector cache."""
        return Path(self.cache.path).expanduser() if self.cache.path else self.store_dir / "cache"

    @property
    def live(self) -> LivePlaces:
        """What the live job reads and writes."""
        kafka = self.kafka
        return LivePlaces(
            events=f"kafka:{kafka.events_topic}",
            items=f"kafka:{kafka.items_topic}",
            lists=f"kafka:{kafka.lists_topic}",
            dead_letter=f"kafka:{kafka.dead_letter_topic}",
            sessions=f"kafka:{kafka.sessions_topic}" if kafka.sessions_topic else "",
        )

    def live_settings(self) -> dict[str, str]:
        """Address of each place of the live job, by the setting that names it."""
        named = zip(LivePlaces._fields, self.live, strict=True)
        return {f"kafka.{field}_topic": address for field, address in named if address}

    @property
    def start(self) -> Bound:
        """Where a place that has a beginning to choose is read from."""
        return self.kafka.start_from

    @property
    def start_text(self) -> str:
        """The same as it was set."""
        return self.kafka.start

    def options_of(self, scheme: str) -> Mapping[str, Any]:
        """Settings for the connector of this scheme: those of the section that has its name.

        >>> Settings().options_of("kafka")["bootstrap"], Settings().options_of("file")
        ('localhost:9092', {})
        """
        if scheme not in type(self).model_fields:
            return {}
        section = getattr(self, scheme)
        return {name: getattr(section, name) for name in type(section).model_fields}

    def as_toml(self, only: Collection[str] | None = None) -> str:
        """The whole effective configuration as a file that `load` reads back; secrets are only named.

        With ``only``, the settings of these names alone, such as ``"ranking.weights.fresh"``.

        >>> print(Settings().as_toml().split("[store]")[1].split("# Folder")[0].strip())
        # lancedb (a folder on a local disk), memory (one process, gone with it; for tests).
        backend = "lancedb"
        """
        return "\n".join(line for name in type(self).model_fields for line in _section_toml(self, name, only))

    def environ_for_child(self, base: Mapping[str, str] = _NOTHING) -> dict[str, str]:
        """Environment from which a child process builds these very settings, secrets included.

        ``base`` is the environment to extend: its own RECSTREAM_* variables are left out, because
        they could contradict the command line's.

        >>> Settings().environ_for_child({"HOME": "/"})["RECSTREAM_RANKING__REPEATS"]
        'auto'
        """
        child = {k: v for k, v in base.items() if not k.startswith(PREFIX)}
        for name in type(self).model_fields:
            section = getattr(self, name)
            for field in type(section).model_fields:
                child[f"{PREFIX}{name}__{field}".upper()] = _env_text(getattr(section, field))
        return child


def _schema() -> Schema:
    """Known fields by section; True for those that are tables of free keys."""
    fields = {}
    for name, section in Settings.model_fields.items():
        inner: dict[str, FieldInfo] = type(section.default).model_fields
        fields[name] = {field: isinstance(info.default, dict) for field, info in inner.items()}
    return fields


def _env_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _toml_value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _section_toml(settings: Settings, name: str, only: Collection[str] | None) -> Iterator[str]:
    section = getattr(settings, name)
    plain: list[str] = []
    tables: list[str] = []
    for field, info in type(section).model_fields.items():
        value, key = getattr(section, field), f"{name}.{field}"
        is_wanted = only is None or key in only
        if isinstance(value, dict):
            entries = [
                _line(f"{key}.{entry}", _toml_value(entry), inner)
                for entry, inner in sorted(value.items())
                if is_wanted or (only and f"{key}.{entry}" in only)
            ]
            if entries or is_wanted:
                tables += ["", f"# {info.description}", f"[{key}]", *entries]
        elif is_wanted:
            plain += [f"# {info.description}", _line(key, field, value)]
    if plain or tables:
        yield from (f"# {type(section).__doc__}", f"[{name}]", *plain, *tables, "")


def _line(key: str, left: str, value: object) -> str:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not is_secret(key):
        return f"{left} = {_toml_value(plain)}"
    section, field, *rest = key.split(".")
    inner = ["_".join(rest)] if rest else []
    variable = PREFIX + "__".join([section, field, *inner]).upper()
    return f"# {left} = {_toml_value(MASK if plain else '')}  # give it as {variable}"


_WANTED = {
    "int_parsing": "wanted a whole number",
    "int_type": "wanted a whole number",
    "int_from_float": "wanted a whole number",
    "float_parsing": "wanted a number",
    "float_type": "wanted a number",
    "finite_number": "wanted a finite number",
    "bool_parsing": "wanted true or false",
    "bool_type": "wanted true or false",
    "string_type": "wanted text",
    "dict_type": "wanted a table of names and values",
    "greater_than_equal": "wanted at least {ge}",
    "greater_than": "wanted more than {gt}",
    "less_than_equal": "wanted at most {le}",
    "less_than": "wanted less than {lt}",
    "literal_error": "wanted {expected}",
    "string_pattern_mismatch": "wanted text that matches {pattern}",
    "string_too_short": "wanted text that is not empty",
    "value_error": "{error}",
}


def _describe(problem: Any, gathered: Gathered, bad: set[str]) -> Iterator[str]:
    """Say where, got and wanted; a conflict with a field that is wrong by itself says nothing new."""
    key = ".".join(str(part) for part in problem["loc"])
    context = problem.get("ctx", {})
    if problem["type"] == "conflict":
        for conflict in context["conflicts"]:
            names = [f"{key}.{field}" if key else field for field in conflict.fields]
            if not any(name in bad or name.partition(".")[0] in bad for name in names):
                places = sorted({where for name in names for where in gathered.places(name)})
                yield "; ".join([", ".join(places), conflict.text] if places else [conflict.text])
        bad.add(key)
        return
    bad.update({key, ".".join(key.split(".")[:2])})
    wanted = _WANTED.get(problem["type"], problem["msg"]).format(**context)
    got = MASK if is_secret(key) else _LOGIN.sub(f"//{MASK}@", repr(problem["input"]))
    where = ", ".join(gathered.places(key)[:1]) or key
    yield f"{where}: got {got}, {wanted}"


def _drop(values: dict[str, Any], loc: tuple[int | str, ...]) -> None:
    """Leave the offending value out, so that the next round finds what it hid."""
    *path, last = [str(part) for part in loc] or [""]
    if not last:
        values.clear()
        return
    for part in path:
        values = values.get(part, {})
    values.pop(last, None)
