"""What the sections of the settings are made of: their base, and the values that need parsing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from recstream.records.checks import FieldError, timestamp

__all__ = ["Conflict", "Section", "flat_client", "parse_bound"]


class Conflict(NamedTuple):
    """Fields that do not go together."""

    fields: tuple[str, ...]
    """Dotted from the section (``"url"``), or from the root for conflicts between sections."""
    text: str
    """What is wrong and what is wanted."""


class Section(BaseModel):
    """A frozen group of settings: unknown names, NaN and infinities are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, validate_default=True
    )

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("wanted text without NUL characters")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = list(self.conflicts())
        if found:
            text = "; ".join(c.text for c in found).replace("{", "{{").replace("}", "}}")
            raise PydanticCustomError("conflict", "{text}", {"text": text, "conflicts": found})
        return self

    def conflicts(self) -> Iterator[Conflict]:
        """Fields which are fine each and wrong together."""
        return iter(())


def parse_bound(text: str, words: tuple[str, ...]) -> str | dict[str, int]:
    """Check where a read begins or ends: one of the words, ``ts=...``, or ``offsets={...}`` (a mapping then).

    Raises:
        ValueError: it is none of these; the message says what was wanted.

    >>> parse_bound("ts=2024-01-01T00:00:00Z", ("earliest", "latest"))
    'ts=2024-01-01T00:00:00Z'
    >>> parse_bound('offsets={"events/0": 12, "events/1": 7}', ("end",))
    {'events/0': 12, 'events/1': 7}
    """
    kind, equals, rest = text.partition("=")
    if kind == "ts" and equals:
        _check_time(rest)
    elif kind == "offsets" and equals:
        return _offsets(rest)
    elif text not in words:
        raise ValueError(
            f"wanted {', '.join(words)}, ts=<Unix seconds or RFC 3339>, or "
            'offsets={"<topic>/<partition>": <offset>, ...}'
        )
    return text


def _check_time(text: str) -> None:
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    try:
        timestamp(value, "ts")
    except FieldError as err:
        wanted = "wanted ts=<Unix seconds>, or ts=<RFC 3339 with an offset> such as ts=2024-01-01T00:00:00Z"
        raise ValueError(f"{wanted} ({err.detail})") from None


def _offsets(text: str) -> dict[str, int]:
    wanted = 'wanted offsets=<JSON object of partition to offset>, such as offsets={"events/0": 12}'
    try:
        offsets = json.loads(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not isinstance(offsets, dict) or not offsets:
        raise ValueError(wanted)
    for partition, offset in offsets.items():
        if not re.match(r"^[A-Za-z0-9._-]+/\d+$", partition) or type(offset) is not int or offset < 0:
            raise ValueError(wanted)
    return offsets


def flat_client(table: Mapping[str, Any]) -> dict[str, Any]:
    """Client settings as librdkafka wants them: nested tables dotted, numbers and booleans as text.

    >>> flat_client({"sasl": {"mechanism": "PLAIN"}, "socket.timeout.ms": 100, "debug": True})
    {'sasl.mechanism': 'PLAIN', 'socket.timeout.ms': '100', 'debug': 'true'}
    """
    flat: dict[str, Any] = {}
    for key, inner in table.items():
        if isinstance(inner, Mapping):
            flat.update({f"{key}.{rest}": leaf for rest, leaf in flat_client(inner).items()})
        elif isinstance(inner, bool):
            flat[str(key)] = "true" if inner else "false"
        else:
            flat[str(key)] = str(inner) if isinstance(inner, int | float) else inner
    return flat
