"""A setting has one default: its own. What settings are turned into has none for it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from recstream.config import Settings
from recstream.connectors.base import ReadOptions
from recstream.connectors.kafka import connector
from recstream.records.actions import DecodeRules
from recstream.runtime import wiring

SETTINGS = {"settings", "chosen", "events", "store", "live", "kafka"}
"""Names under which modules hold the settings, or a section of them."""
OWN = {DecodeRules, ReadOptions}
"""Classes with defaults of their own, for they are used without settings, too: records are decoded and
described, and sources are read whole."""


def is_setting(value: ast.expr) -> bool:
    """Whether an expression takes anything out of the settings."""
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and (node.value.id if isinstance(node.value, ast.Name) else node.value.attr) in SETTINGS
        for node in ast.walk(value)
    )


def given(module: ModuleType) -> Iterator[tuple[Any, inspect.Parameter]]:
    """Each parameter that the module gives a setting to, with the class or function it is of."""
    for call in ast.walk(ast.parse(inspect.getsource(module))):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        target = getattr(module, call.func.id, None)
        if not callable(target) or not target.__module__.startswith("recstream."):
            continue
        parameters = inspect.signature(target).parameters
        by_name = [(word.arg, word.value) for word in call.keywords if word.arg is not None]
        for name, value in [*zip(parameters, call.args, strict=False), *by_name]:
            if is_setting(value):
                yield target, parameters[name]


def test_parameters_that_settings_are_given_to_are_found() -> None:
    found = {(target.__name__, parameter.name) for target, parameter in given(wiring)}
    assert found >= {
        ("RankingRules", "top_n"),
        ("Diversity", "mmr"),
        ("UserStateRules", "half_life_s"),
        ("IdleRefreshRules", "lists_per_event"),
        ("RejectLimitRules", "share"),
        ("LearningRules", "enabled"),
        ("EncoderSpec", "model"),
        ("DataflowRules", "hot_users"),
    }
    assert ("KafkaSource", "poll_max") in {(target.__name__, one.name) for target, one in given(connector)}


@pytest.mark.parametrize("module", [wiring, connector])
def test_what_a_setting_is_given_to_has_no_default(module: ModuleType) -> None:
    """None does not count: it says that there is nothing, which no setting has as its default."""
    second = [
        f"{target.__name__}({parameter.name}={parameter.default!r})"
        for target, parameter in given(module)
        if target not in OWN and parameter.default not in (inspect.Parameter.empty, None)
    ]
    assert second == []


def test_settings_take_the_defaults_of_decoding_from_there() -> None:
    events, rules = Settings().events, DecodeRules()
    assert (events.rating_min, events.rating_max) == rules.rating_scale
    names = ("max_text_bytes", "max_record_bytes", "future_tolerance_s")
    source = inspect.getsource(type(events))
    for name in names:
        assert getattr(events, name) == getattr(rules, name)
        assert f"default=_DECODE.{name}" in source
