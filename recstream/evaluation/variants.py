"""Variants of a job: each signal left out in turn, and the points of a grid of settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from recstream.config import ConfigError, Settings
from recstream.core.signals import DEFAULT_WEIGHTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed on 3.10

__all__ = ["Point", "grid_points", "left_out"]

Point = dict[str, object]
"""Values by dotted setting."""


def left_out(settings: Settings) -> dict[str, Settings]:
    """The settings without each signal that weighs anything, by the signal's name."""
    weights = {**DEFAULT_WEIGHTS, **settings.ranking.weights}
    found = {}
    for name, weight in weights.items():
        if weight:
            chosen = {**settings.ranking.weights, name: 0.0}
            ranking = settings.ranking.model_copy(update={"weights": chosen})
            found[name] = settings.model_copy(update={"ranking": ranking})
    return found


def grid_points(texts: Sequence[str]) -> list[Point]:
    """Every combination of the values that are given: ``section.field=1,2``, or a TOML file of lists.

    Raises:
        ConfigError: a text or a file is neither; all problems at once.

    >>> grid_points(["ranking.neighbours=50,100", "profile.half_life_days=7"])[1]
    {'ranking.neighbours': '100', 'profile.half_life_days': '7'}
    """
    choices: dict[str, list[object]] = {}
    problems: list[str] = []
    for text in texts:
        key, equals, values = text.partition("=")
        if equals:
            choices[key.strip()] = [value.strip() for value in values.split(",")]
        elif text.endswith(".toml"):
            try:
                choices |= dict(_lists(tomllib.loads(Path(text).read_text()), ""))
            except (OSError, ValueError) as error:
                problems.append(f"--grid {text}: {error}")
        else:
            problems.append(f"--grid {text!r}: wanted a .toml file, or such as ranking.neighbours=50,100")
    problems += [f"--grid: {key}: wanted at least one value" for key, some in choices.items() if not some]
    if problems:
        raise ConfigError(problems)
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def _lists(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, list[object]]]:
    """The lists in a nested table by dotted key; a value alone is a list of one."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lists(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, list) else [value]
