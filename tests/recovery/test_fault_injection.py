"""The fault injection wraps methods that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.recovery import fault_injection

WRAPPED = sorted(
    (ast.unparse(call.args[0]), ast.literal_eval(call.args[1]))
    for call in ast.walk(ast.parse(Path(fault_injection.__file__).read_text()))
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "wrap"
)


@pytest.mark.parametrize(("owner", "name"), WRAPPED)
def test_what_is_wrapped_exists(owner: str, name: str) -> None:
    found: object = fault_injection
    for part in (*owner.split("."), name):
        found = getattr(found, part)
    assert callable(found)
