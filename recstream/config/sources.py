"""Where settings come from: a TOML file, RECSTREAM_* variables, and the command line.

This module collects names and raw values, remembers where each came from, and reports names that do not exist
with the closest one that does. `recstream.config.settings` checks the values.

pydantic-settings is not used: it accepts an unknown RECSTREAM_TOP_N in silence, stops at the first file or
table that does not parse, and does not say which source a wrong value came from. Unknown names, problems with
their places, dotted client settings and the variables that Kubernetes sets would all still be written here;
only the merging of three mappings would go.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from recstream.config.values import beside, flat_client

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed on 3.10

__all__ = ["CONFIG_VARIABLE", "PREFIX", "ConfigError", "Gathered", "Schema", "closest", "gather"]

PREFIX = "RECSTREAM_"
CONFIG_VARIABLE = "RECSTREAM_CONFIG"
"""Names the TOML file when the command line does not."""

Schema = Mapping[str, Mapping[str, bool]]
"""Known fields by section; True for a table whose keys are free (``kafka.client``)."""


class ConfigError(Exception):
    r"""The settings are wrong; ``problems`` lists everything that is.

    >>> str(ConfigError(["a", "b"]))
    '2 problems with the settings:\n  a\n  b'
    """

    def __init__(self, problems: list[str], usable: BaseModel | None = None) -> None:
        super().__init__(problems)
        self.problems = list(problems)
        """One line each: where, got, wanted."""
        self.usable = usable
        """The settings with defaults for what is wrong: for a doctor to go on with; not pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return ConfigError, (self.problems,)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n  ".join([f"{count} with the settings:", *self.problems])


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name a misspelt one was probably meant to be.

    >>> closest("kafka.gruop", ["kafka.group", "store.path"])
    'kafka.group'
    >>> closest("zzz", ["kafka.group"]) is None
    True
    """
    found = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


class Moved(NamedTuple):
    """Where a folder of a settings file is, and where earlier releases took it to be."""

    now: str
    before: Path


@dataclass
class Gathered:
    """Raw values by dotted name, where each came from, and the names that do not exist."""

    schema: Schema
    values: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    store_moved: Moved | None = None
    """The store of the settings file, if earlier releases took it to be elsewhere."""

    def put(self, key: str, value: object, where: str) -> None:
        """Set one field or one entry of a free table; a later source wins."""
        section, name, *entry = key.split(".", 2)
        if not self.schema[section][name]:
            self.values[key], self.where[key] = value, where
        elif entry:
            table = self.values.setdefault(f"{section}.{name}", {})
            if isinstance(table, dict):  # else it was reported as no table already
                table[entry[0]] = value
            self.where[key] = where
        else:
            self._put_table(key, value, where)

    def _put_table(self, key: str, value: object, where: str) -> None:
        for old in [k for k in self.where if k == key or k.startswith(f"{key}.")]:
            del self.where[old]
        self.values[key] = dict(value) if isinstance(value, Mapping) else value
        self.where[key] = where

    def places(self, key: str) -> list[str]:
        """Where a field, its table, or the entries of a table were set; nothing for a default."""
        exact = [self.where[key]] if key in self.where else []
        inner = [where for name, where in self.where.items() if name.startswith(f"{key}.")]
        outer = [where for name, where in self.where.items() if key.startswith(f"{name}.")]
        return exact or inner or outer

    def nested(self) -> dict[str, dict[str, Any]]:
        """Values as pydantic reads them."""
        out: dict[str, dict[str, Any]] = {}
        for key, value in self.values.items():
            section, name = key.split(".", 1)
            out.setdefault(section, {})[name] = dict(value) if isinstance(value, dict) else value
        return out

    def names(self) -> list[str]:
        """All dotted names that exist."""
        return [f"{section}.{name}" for section, fields in self.schema.items() for name in fields]

    def knows(self, section: str, name: str) -> bool:
        """Whether ``section.name`` is a setting."""
        return name in self.schema.get(section, {})

    def unknown(self, where: str, key: str, known: Mapping[str, str]) -> None:
        """Report a name that does not exist; ``known`` gives how the source writes each dotted name."""
        name = key.rpartition(".")[2]
        homes = [other for other in self.names() if other.partition(".")[2] == name]
        guess = homes[0] if len(homes) == 1 else closest(key, [*known])
        hint = f"; did you mean {known[guess]}?" if guess else f"; sections are {', '.join(self.schema)}"
        self.problems.append(f"{where} is not a setting{hint}")


def gather(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object], schema: Schema
) -> Gathered:
    """Collect from all three sources, in rising order of precedence."""
    found = Gathered(schema)
    named = environ.get(CONFIG_VARIABLE)
    if path is not None:
        _from_file(found, path, str(path))
    elif named:
        _from_file(found, Path(named), f"{CONFIG_VARIABLE}={named}")
    _from_environ(found, environ)
    _from_overrides(found, overrides)
    return found


def _from_file(found: Gathered, path: Path, shown: str) -> None:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found.problems.append(f"{shown}: there is no such file")
        return
    except OSError as err:
        found.problems.append(f"{shown}: cannot be read: {err.strerror}")
        return
    except UnicodeDecodeError as err:
        found.problems.append(f"{shown}: is not UTF-8 text: byte {err.start} is {err.object[err.start]:#04x}")
        return
    except tomllib.TOMLDecodeError as err:
        found.problems.append(f"{shown}: is not TOML: {err}")
        return
    known = {key: "[{}] {}".format(*key.split(".")) for key in found.names()}
    for section, table in tables.items():
        if not isinstance(table, dict):
            found.unknown(f"{shown}: {section}", section, known)
        elif section not in found.schema:
            guess = closest(section, found.schema)
            hint = f"; did you mean [{guess}]?" if guess else f"; sections are {', '.join(found.schema)}"
            found.problems.append(f"{shown}: [{section}] is not a section{hint}")
        else:
            for name, value in table.items():
                where = f"{shown}: [{section}] {name}"
                if not found.knows(section, name):
                    found.unknown(where, f"{section}.{name}", known)
                elif found.schema[section][name] and isinstance(value, dict):
                    found.put(f"{section}.{name}", {}, where)
                    entries: dict[str, Any] = (
                        flat_client(value) if (section, name) == ("kafka", "client") else value
                    )
                    for entry, inner in entries.items():
                        found.put(f"{section}.{name}.{entry}", inner, f"{shown}: [{section}.{name}] {entry}")
                elif (section, name) == ("store", "path") and isinstance(value, str):
                    found.put("store.path", _store_path(found, path, value), where)
                else:
                    found.put(f"{section}.{name}", value, where)


def _store_path(found: Gathered, file: Path, written: str) -> str:
    """Give the store's folder as a settings file means it; a note is taken if that has changed."""
    now = beside(file, written)
    before = Path(written).absolute()
    if now == written or Path(now) == before:
        return written
    found.store_moved = Moved(now, before)
    return now


_CLUSTER = re.compile(
    r"^RECSTREAM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)


def _set_by_cluster(name: str, value: str) -> bool:
    """Whether Kubernetes set the variable, for a service whose name begins with recstream."""
    address = re.match(r"^(tcp|udp|sctp)://", value) is not None
    return _CLUSTER.match(name) is not None or (name.endswith("_PORT") and address)


def _from_environ(found: Gathered, environ: Mapping[str, str]) -> None:
    known = {key: f"{PREFIX}{key.replace('.', '__').upper()}" for key in found.names()}
    ours = sorted(name for name in environ if name.upper().startswith(PREFIX) and name != CONFIG_VARIABLE)
    for name in ours:  # a table comes before its entries: `A__B` sorts before `A__B__C`
        if _set_by_cluster(name, environ[name]):
            continue
        section, _, rest = name[len(PREFIX) :].lower().partition("__")
        field_name, _, entry = rest.partition("__")
        is_table = found.schema.get(section, {}).get(field_name)
        if name != name.upper() or is_table is None or (entry and not is_table):
            found.unknown(name, f"{section}.{rest}" if rest else section, known)
        elif entry:
            dotted = entry.replace("_", ".") if (section, field_name) == ("kafka", "client") else entry
            found.put(f"{section}.{field_name}.{dotted}", environ[name], name)
        elif is_table:
            found.put(f"{section}.{field_name}", _table(environ[name]), name)
        else:
            found.put(f"{section}.{field_name}", environ[name], name)


def _table(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text  # reported where values are checked


def _from_overrides(found: Gathered, overrides: Mapping[str, object]) -> None:
    known = {key: key for key in found.names()}
    for key, value in overrides.items():
        section, _, rest = key.partition(".")
        name, dot, _ = rest.partition(".")
        is_table = found.schema.get(section, {}).get(name)
        if value is None:
            continue
        if is_table is None or (dot and not is_table):
            found.unknown(f"command line: {key}", key, known)
        else:
            found.put(
                key,
                _table(value) if is_table and not dot and isinstance(value, str) else value,
                f"command line: {key}",
            )
