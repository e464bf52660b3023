"""Ablations and grids: settings without a signal or a group of signals, and every point of a grid."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from recstream.config import ConfigError, Settings
from recstream.ranking.signals.table import SIGNALS, default_weights, signal_groups

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed on 3.10

__all__ = ["Point", "ablated_settings", "grid_points", "signals_of"]

Point = dict[str, object]
"""Values by the dotted name of the setting."""


def signals_of(name: str) -> tuple[str, ...]:
    """Signals that a name stands for: the signal of that name, or those of the group.

    Raises:
        ConfigError: It names neither.

    >>> signals_of("trends"), signals_of("words")
    (('rising', 'trending', 'lasting', 'popular'), ('words',))
    """
    groups = signal_groups()
    if name in groups:
        return groups[name]
    if name not in SIGNALS:
        wanted = f"wanted all, groups, a group ({', '.join(groups)}), or a signal ({', '.join(SIGNALS)})"
        raise ConfigError([f"--ablate {name!r}: {wanted}"])
    return (name,)


def ablated_settings(settings: Settings, names: Sequence[str]) -> dict[str, Settings]:
    """Settings without each of these signals or groups, by its name.

    ``all`` stands for each signal, ``groups`` for each group. Signals of weight 0 are skipped.

    Raises:
        ConfigError: A name is unknown.
    """
    chosen: dict[str, None] = {}
    for name in names:
        meant = {"all": tuple(SIGNALS), "groups": tuple(signal_groups())}
        chosen |= dict.fromkeys(meant.get(name, (name,)))
    weights = {**default_weights(), **settings.ranking.weights}
    ablated = {}
    for name in chosen:
        used = [signal for signal in signals_of(name) if weights[signal]]
        if used:
            without = {**settings.ranking.weights, **dict.fromkeys(used, 0.0)}
            ranking = settings.ranking.model_copy(update={"weights": without})
            ablated[name] = settings.model_copy(update={"ranking": ranking})
    return ablated


def grid_points(texts: Sequence[str]) -> list[Point]:
    """Every combination of values given as ``section.field=1,2`` or as a TOML file of lists.

    Raises:
        ConfigError: A text or a file is neither; all problems are named at once.

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
    problems += [f"--grid: {key}: wanted at least one value" for key, given in choices.items() if not given]
    if problems:
        raise ConfigError(problems)
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def _lists(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, list[object]]]:
    """Lists in a nested table by dotted key; a single value is a list of one."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lists(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, list) else [value]
