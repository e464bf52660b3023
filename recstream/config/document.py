"""The reference of all settings, as Markdown: ``python -m recstream.config.document > docs/settings.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from recstream.config.settings import Settings

__all__ = ["settings_page"]

_HEAD: Final = """\
# Settings

Written by `python -m recstream.config.document > docs/settings.md`: change the fields in
`recstream/config/sections.py`, then run it again.

A setting has a section and a name. It comes, in rising order of precedence, from a TOML file (`--config`, or
the file that `RECSTREAM_CONFIG` names), from the environment and from the command line:

```toml
[kafka]
group = "recommendations"
```

is `RECSTREAM_KAFKA__GROUP=recommendations` in the environment. An entry of a table is
`RECSTREAM_EVENTS__ACTIONS__LIKE=2.5`, a whole table `RECSTREAM_EVENTS__ACTIONS={"like": 2.5}`. All problems
are reported at once, and a name that does not exist is one of them. `recstream config` prints the settings
in effect. Units are in the names: `_s` is seconds, `_mb` is MiB.
"""
_TYPES: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    SecretStr: "secret",
}
_LIMITS: Final = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "min_length": "not empty",
    "pattern": "matches `{}`",
}
"""Constraints of a field, and how they read; those that are not here say nothing about what is allowed."""


def settings_page() -> str:
    """Every setting with its type, default, limits and meaning.

    >>> next(line for line in settings_page().splitlines() if line.startswith("| `top_n`"))
    '| `top_n` | whole number | `20` | at least 1, at most 1,000 | Items in a list. |'
    """
    sections = (_section(name, info) for name, info in Settings.model_fields.items())
    return _HEAD + "".join("\n" + "\n".join(lines) + "\n" for lines in sections)


def _section(name: str, section: FieldInfo) -> Iterator[str]:
    yield f"## {name}\n\n{section.description}\n"
    yield "| name | type | default | limits | meaning |\n|---|---|---|---|---|"
    fields: dict[str, FieldInfo] = type(section.default).model_fields
    for field, info in fields.items():
        cells = [
            f"`{field}`",
            _kind(info.annotation),
            _default(info.default),
            _limits(info),
            info.description,
        ]
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("<", "\\<") for cell in cells) + " |"


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is dict:
        return f"table of {_TYPES[get_args(kind)[1]]}"
    return _TYPES[kind]


def _default(value: object) -> str:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    return "empty" if plain in ("", {}) else f"`{json.dumps(plain)}`"


def _limits(info: FieldInfo) -> str:
    """What one field allows; what several fields must agree on is checked when all are known."""
    limits = [
        text.format(f"{limit:,}".removesuffix(".0") if isinstance(limit, int | float) else limit)
        for constraint in info.metadata
        for name, text in _LIMITS.items()
        if (limit := getattr(constraint, name, None)) is not None
    ]
    return ", ".join(limits)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
